/* A fake engine that starts in no time: it speaks just enough HTTP, OpenAI and TGI for tests and benchmarks.
 *
 * Any request is answered 200 "ok"; POST /v1/chat/completions and POST /generate get a small valid answer, streamed when
 * the body asks for it. Every answer names its pod in X-Pod. Settings, from the environment:
 *   PORT (8000)      where it listens
 *   DELAY_MS         before it listens: a slow start
 *   RESPONSE_MS      before each answer but to GET, and between the chunks of a stream
 *   EVENTS (2)       events with text in a stream, one token each
 *   EXIT_CODE        exit with it at once: a crash loop
 *   EAT_MB           allocate and touch memory at once: out of memory
 *   QUEUE, TOKENS    requests that GET /metrics says wait within it, and tokens in flight; without either there is no page
 *   SHUTDOWN_MS      from SIGTERM to its end, serving the connections it has: a slow end
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define HEAD_LIMIT 65536
#define BODY_LIMIT (64u << 20)

static long response_ms, events = 2, queue = -1, tokens = -1;
static const char *pod = "";

static long setting(const char *name, long fallback) {
  const char *value = getenv(name);
  return value && *value ? strtol(value, NULL, 10) : fallback;
}

static void sleep_ms(long ms) {
  struct timespec left = {ms / 1000, ms % 1000 * 1000000};
  while (ms > 0 && nanosleep(&left, &left) && errno == EINTR) {
  }
}

static int send_all(int client, const char *data, size_t size) {
  while (size > 0) {
    ssize_t sent = send(client, data, size, MSG_NOSIGNAL);
    if (sent <= 0) return -1;
    data += sent, size -= (size_t)sent;
  }
  return 0;
}

static int answer(int client, const char *type, const char *body) {
  char text[2048];
  int size = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nX-Pod: %s\r\nContent-Length: %zu\r\n\r\n%s",
                      type, pod, strlen(body), body);
  return send_all(client, text, (size_t)size);
}

static int chunk(int client, const char *event) {
  char text[1024];
  int size = snprintf(text, sizeof text, "%zx\r\ndata: %s\n\n\r\n", strlen(event) + 8, event);
  return send_all(client, text, (size_t)size);
}

/* Stream `event` until the last one, then `rest`, where %ld stands for the number of events. */
static int stream(int client, const char *event, const char *last, const char *const *rest) {
  char text[512];
  int size = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Pod: %s\r\n"
                      "Transfer-Encoding: chunked\r\n\r\n", pod);
  if (send_all(client, text, (size_t)size)) return -1;
  for (long i = 1; i <= events; i++) {
    if (i > 1) sleep_ms(response_ms);
    snprintf(text, sizeof text, i < events ? event : last, i);
    if (chunk(client, text)) return -1;
  }
  for (int i = 0; rest[i]; i++) {
    snprintf(text, sizeof text, rest[i], events, events + 1);
    if (chunk(client, text)) return -1;
  }
  return send_all(client, "0\r\n\r\n", 5);
}

#define COMMON "\"id\":\"chatcmpl-0\",\"created\":1767225600,\"model\":\"trivial\""
#define USAGE(made, all) "\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":" made ",\"total_tokens\":" all "}"
#define DELTA(content, finish)                                                                                        \
  "{" COMMON ",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\","     \
  "\"content\":\"" content "\"},\"finish_reason\":" finish "}]}"
#define TOKEN(text) "{\"index\":%1$ld,\"token\":{\"id\":%1$ld,\"text\":\"" text "\",\"logprob\":0,\"special\":false},"

static int chat(int client, int streamed) {
  static const char *const rest[] = {
      "{" COMMON ",\"object\":\"chat.completion.chunk\",\"choices\":[]," USAGE("%ld", "%ld") "}", "[DONE]", NULL};
  if (streamed) return stream(client, DELTA("o", "null"), DELTA("k", "\"stop\""), rest);
  return answer(client, "application/json",
                "{" COMMON ",\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
                "\"content\":\"ok\"},\"finish_reason\":\"stop\"}]," USAGE("2", "3") "}");
}

static int generate(int client, int streamed) {
  static const char *const rest[] = {NULL};
  if (!streamed) return answer(client, "application/json", "{\"generated_text\":\"ok\"}");
  return stream(client, TOKEN("o") "\"generated_text\":null,\"details\":null}",
                TOKEN("k") "\"generated_text\":\"ok\",\"details\":{\"finish_reason\":\"length\","
                           "\"generated_tokens\":%1$ld,\"seed\":null}}",
                rest);
}

static int metrics(int client) {
  char text[256] = "";
  int size = 0;
  if (queue >= 0) size = snprintf(text, sizeof text, "# TYPE tgi_queue_size gauge\ntgi_queue_size %ld\n", queue);
  if (tokens >= 0) {
    snprintf(text + size, sizeof text - (size_t)size,
             "# TYPE tgi_batch_current_max_tokens gauge\ntgi_batch_current_max_tokens %ld\n", tokens);
  }
  return answer(client, "text/plain", text);
}

/* Say whether a JSON text holds "stream": true, with any spacing. */
static int wants_stream(const char *body) {
  for (const char *at = body; (at = strstr(at, "\"stream\"")); at++) {
    const char *value = at + 8;
    value += strspn(value, " \t\r\n");
    if (*value++ != ':') continue;
    value += strspn(value, " \t\r\n");
    if (!strncmp(value, "true", 4)) return 1;
  }
  return 0;
}

static const char *header(const char *head, const char *name) {
  size_t size = strlen(name);
  for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
    if (!strncasecmp(line + 2, name, size) && line[2 + size] == ':') return line + 3 + size + strspn(line + 3 + size, " ");
  }
  return NULL;
}

struct input {
  int client;
  char data[HEAD_LIMIT + 1];
  size_t have;
};

/* Read at least one byte more; keep the data a string. */
static int fill(struct input *in) {
  if (in->have == HEAD_LIMIT) return -1;
  ssize_t got = recv(in->client, in->data + in->have, HEAD_LIMIT - in->have, 0);
  if (got <= 0) return -1;
  in->have += (size_t)got;
  in->data[in->have] = 0;
  return 0;
}

static void take(struct input *in, char *target, size_t size) {
  memcpy(target, in->data, size);
  memmove(in->data, in->data + size, in->have - size + 1);
  in->have -= size;
}

/* Append `size` bytes of the connection to the body. */
static int append(struct input *in, char **body, size_t *length, size_t size) {
  if (size > BODY_LIMIT - *length) return -1;
  char *grown = realloc(*body, *length + size + 1);
  if (!grown) return -1;
  *body = grown;
  while (size > 0) {
    if (in->have == 0 && fill(in)) return -1;
    size_t part = in->have < size ? in->have : size;
    take(in, *body + *length, part);
    *length += part, size -= part;
  }
  (*body)[*length] = 0;
  return 0;
}

static int read_chunks(struct input *in, char **body, size_t *length) {
  for (;;) {
    char *end, line[64];
    while (!(end = strstr(in->data, "\r\n"))) {
      if (fill(in)) return -1;
    }
    size_t size = (size_t)(end - in->data) + 2;
    if (size >= sizeof line) return -1;
    take(in, line, size);
    line[size] = 0;
    size_t announced = strtoul(line, NULL, 16);
    if (append(in, body, length, announced)) return -1;
    while (in->have < 2) {
      if (fill(in)) return -1;
    }
    take(in, line, 2);
    if (announced == 0) return 0;
  }
}

/* Serve one request; say whether the connection goes on. */
static int serve_one(struct input *in) {
  static __thread char head[HEAD_LIMIT + 1];
  char *end;
  while (!(end = strstr(in->data, "\r\n\r\n"))) {
    if (fill(in)) return 0;
  }
  size_t size = (size_t)(end - in->data) + 4;
  take(in, head, size);
  head[size] = 0;
  const char *expect = header(head, "expect"), *coding = header(head, "transfer-encoding");
  if (expect && send_all(in->client, "HTTP/1.1 100 Continue\r\n\r\n", 25)) return 0;
  char *body = calloc(1, 1);
  size_t length = 0;
  const char *announced = header(head, "content-length"), *connection = header(head, "connection");
  int bad = coding ? read_chunks(in, &body, &length) : append(in, &body, &length, announced ? strtoul(announced, NULL, 10) : 0);
  int failed = bad;
  if (!bad) {
    if (strncmp(head, "GET ", 4)) sleep_ms(response_ms);
    int streamed = wants_stream(body);
    if (!strncmp(head, "POST /v1/chat/completions ", 26)) failed = chat(in->client, streamed);
    else if (!strncmp(head, "POST /generate_stream ", 22)) failed = generate(in->client, 1);
    else if (!strncmp(head, "POST /generate ", 15)) failed = generate(in->client, streamed);
    else if ((queue >= 0 || tokens >= 0) && !strncmp(head, "GET /metrics ", 13)) failed = metrics(in->client);
    else failed = answer(in->client, "text/plain", "ok");
  }
  free(body);
  return !failed && !(connection && !strncasecmp(connection, "close", 5));
}

static void *serve(void *argument) {
  /* Signals are for the first thread, so that connections are served during a slow end. */
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, NULL);
  struct input *in = argument;
  while (serve_one(in)) {
  }
  close(in->client);
  free(in);
  return NULL;
}

static long shutdown_ms;

static void stop(int signal) {
  sleep_ms(shutdown_ms);
  _exit(0);
}

static void eat(size_t size) {
  char *memory = malloc(size);
  if (!memory) _exit(137);
  for (size_t at = 0; at < size; at += 4096) ((volatile char *)memory)[at] = 1;
}

int main(void) {
  signal(SIGTERM, stop);
  signal(SIGINT, stop);
  shutdown_ms = setting("SHUTDOWN_MS", 0);
  if (getenv("EXIT_CODE")) return (int)setting("EXIT_CODE", 1);
  eat((size_t)setting("EAT_MB", 0) << 20);
  sleep_ms(setting("DELAY_MS", 0));
  response_ms = setting("RESPONSE_MS", 0);
  queue = setting("QUEUE", -1), tokens = setting("TOKENS", -1);
  events = setting("EVENTS", 2);
  if (getenv("HOSTNAME")) pod = getenv("HOSTNAME");
  int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)setting("PORT", 8000))};
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) {
    perror("trivial: cannot listen");
    return 1;
  }
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 256 << 10);
  pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
  for (;;) {
    int client = accept(listener, NULL, NULL);
    if (client < 0) continue;
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct input *in = calloc(1, sizeof *in);
    pthread_t thread;
    if (!in) {
      close(client);
      continue;
    }
    in->client = client;
    if (pthread_create(&thread, &small, serve, in)) close(client), free(in);
  }
}
