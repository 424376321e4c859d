// Ask as each line of stdin says, and write what the client made of the answer as a line of JSON.
import { createInterface } from "node:readline";
import { InferenceClient } from "@huggingface/inference";

async function chat({ url, key, model, prompt, headers, stream }) {
  // It knows no end of its retries: all of them together have this long.
  const signal = AbortSignal.timeout(20_000);
  const bounded = (target, init) => fetch(target, { ...init, signal, headers: { ...init.headers, ...headers } });
  const client = new InferenceClient(key, { endpointUrl: url, fetch: bounded });
  const asked = { model, messages: [{ role: "user", content: prompt }] };
  if (!stream) return (await client.chatCompletion(asked)).choices[0].message.content;
  let text = "";
  for await (const part of client.chatCompletionStream(asked)) text += part.choices[0]?.delta.content ?? "";
  return text;
}

for await (const line of createInterface({ input: process.stdin })) {
  let outcome;
  try {
    outcome = { text: await chat(JSON.parse(line)) };
  } catch (error) {
    outcome = { error: error.constructor.name, status: error.httpResponse?.status ?? null, message: String(error) };
  }
  console.log(JSON.stringify(outcome));
}
