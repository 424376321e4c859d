/* A model server that costs next to nothing: one thread, canned answers, so that a proxy before it is what is measured.
 *
 *   backend --port 9000
 *
 * POST: a chat completion, or with "stream":true a stream of "max_tokens" events, one write each, "seed" microseconds
 * apart; each event says when it was sent. A request with the header K-Network-Probe: `queue`, as Knative wants it.
 * Anything else: 200 "ok".
 */
#include "http.h"

#define COMMON "\"id\":\"chatcmpl-0123456789abcdef\",\"created\":1767225600,\"model\":\"m\""
#define USAGE "\"usage\":{\"prompt_tokens\":21,\"completion_tokens\":9,\"total_tokens\":30}"
#define BODY                                                                                                           \
  "{" COMMON ",\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","          \
  "\"content\":\"The capital of France is Paris.\"},\"logprobs\":null,\"finish_reason\":\"stop\"}]," USAGE "}"
#define EVENT                                                                                                          \
  "data: {" COMMON ",\"object\":\"chat.completion.chunk\",\"sent\":%016lld,\"choices\":[{\"index\":0,\"delta\":"       \
  "{\"content\":\" capital\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n"
#define LAST "data: {" COMMON ",\"object\":\"chat.completion.chunk\",\"choices\":[]," USAGE "}\n\n"
#define STREAM_HEAD                                                                                                    \
  "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"

struct connection {
  int fd, place, streamed, left, body_size, at;
  unsigned probe : 1, post : 1;
  long long due, interval;
  size_t unsent;
  char out[1024], body[4096];
  struct message in;
};

static struct connection **heap;
static int waiting, room, poller;

static void swap(int a, int b) {
  struct connection *one = heap[a];
  heap[a] = heap[b], heap[b] = one;
  heap[a]->place = a, heap[b]->place = b;
}

static void sift(int i) {
  while (i > 0 && heap[i]->due < heap[(i - 1) / 2]->due) swap(i, (i - 1) / 2), i = (i - 1) / 2;
  for (;;) {
    int least = i;
    for (int child = 2 * i + 1; child <= 2 * i + 2 && child < waiting; child++)
      if (heap[child]->due < heap[least]->due) least = child;
    if (least == i) return;
    swap(i, least), i = least;
  }
}

static void schedule(struct connection *c, long long due) {
  c->due = due;
  if (c->place < 0) {
    if (waiting == room) heap = realloc(heap, sizeof *heap * (size_t)(room = room ? 2 * room : 1024));
    c->place = waiting, heap[waiting++] = c;
  }
  sift(c->place);
}

static void unschedule(struct connection *c) {
  int at = c->place;
  if (at < 0) return;
  swap(at, --waiting);
  if (at < waiting) sift(at);
  c->place = -1;
}

static void drop(struct connection *c) {
  unschedule(c);
  close(c->fd);
  free(c);
}

/* Send what is left of the buffer; 1: all went, 0: later, -1: the other side is gone. */
static int flush_out(struct connection *c) {
  while (c->unsent) {
    ssize_t sent = send(c->fd, c->out + c->at, c->unsent, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN ? 0 : -1;
    c->at += (int)sent, c->unsent -= (size_t)sent;
  }
  return 1;
}

static int say(struct connection *c, const char *text) {
  c->at = 0, c->unsent = strlen(text);
  memcpy(c->out, text, c->unsent);
  return flush_out(c);
}

static int answer(struct connection *c, const char *type, const char *body) {
  char text[1024];
  snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s", type, strlen(body),
           body);
  return say(c, text);
}

static int chunk(struct connection *c, const char *body) {
  char text[1024];
  snprintf(text, sizeof text, "%zx\r\n%s\r\n", strlen(body), body);
  return say(c, text);
}

static long field(const char *body, const char *name, long fallback) {
  const char *at = strstr(body, name);
  if (!at) return fallback;
  at += strlen(name);
  return strtol(at + strspn(at, "\": "), NULL, 10);
}

static int respond(struct connection *c) {
  c->body[c->body_size] = 0;
  if (message_header(&c->in, "k-network-probe")) return answer(c, "text/plain", "queue");
  if (strncmp(c->in.head, "POST ", 5)) return answer(c, "text/plain", "ok");
  const char *stream = strstr(c->body, "\"stream\"");
  if (!stream || strncmp(stream + 8 + strspn(stream + 8, ": "), "true", 4)) return answer(c, "application/json", BODY);
  c->streamed = 1, c->left = (int)field(c->body, "\"max_tokens\"", 16), c->interval = field(c->body, "\"seed\"", 0);
  /* Spread over one interval, so that the streams do not march in step. */
  schedule(c, now_us() + (c->interval ? rand() % c->interval : 0));
  return say(c, STREAM_HEAD);
}

/* Send a stream's next event, or its end. */
static int step(struct connection *c, long long now) {
  int sent = flush_out(c);
  if (sent == 1) {
    char text[900];
    if (c->left-- > 0) {
      snprintf(text, sizeof text, EVENT, now_us());
      sent = chunk(c, text);
    } else if (c->left == -1) {
      sent = chunk(c, LAST);
    } else {
      unschedule(c);
      c->streamed = 0;
      message_reset(&c->in), c->body_size = 0;
      return say(c, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    }
  }
  /* A stream that is late does not hurry: a model does not either. */
  schedule(c, c->due + c->interval > now ? c->due + c->interval : now + c->interval);
  return sent;
}

static void keep_body(void *owner, const char *data, size_t size) {
  struct connection *c = owner;
  size_t space = sizeof c->body - 1 - (size_t)c->body_size, part = size < space ? size : space;
  memcpy(c->body + c->body_size, data, part);
  c->body_size += (int)part;
}

static int read_in(struct connection *c) {
  static char data[65536];
  ssize_t got = recv(c->fd, data, sizeof data, 0);
  if (got <= 0) return got < 0 && errno == EAGAIN ? 0 : -1;
  if (c->streamed) return 0;
  for (ssize_t used = 0; used < got;) {
    ssize_t taken = message_take(&c->in, data + used, (size_t)(got - used), keep_body, c);
    if (taken < 0) return -1;
    used += taken;
    if (c->in.at != DONE) continue;
    if (respond(c) < 0) return -1;
    if (c->streamed) return 0;
    message_reset(&c->in), c->body_size = 0;
  }
  return 0;
}

static void accept_all(int listener) {
  int fd, on = 1;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    struct connection *c = calloc(1, sizeof *c);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->fd = fd, c->place = -1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
  }
}

int main(int count, char **values) {
  many_files();
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)number(count, values, "--port", 9000))};
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) die("backend: listen");
  poller = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    struct epoll_event events[256];
    long long now = now_us(), wait = waiting ? heap[0]->due - now : 1000000;
    if (wait < 0) wait = 0;
    struct timespec patience = {wait / 1000000, wait % 1000000 * 1000};
    int ready = epoll_pwait2(poller, events, 256, &patience, NULL);
    for (int i = 0; i < ready; i++) {
      struct connection *c = events[i].data.ptr;
      if (!c) accept_all(listener);
      else if (read_in(c) < 0) drop(c);
    }
    /* At most one round of all streams, so that new connections get their turn. */
    now = now_us();
    for (int left = waiting; left > 0 && waiting && heap[0]->due <= now; left--)
      if (step(heap[0], now) < 0) drop(heap[0]);
  }
}
