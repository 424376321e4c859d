/* A load generator that costs less than any proxy: one thread, one request text, many connections.
 *
 *   load closed  each connection sends its next request when it has the answer
 *   load paced   --rate requests a second by the clock; a late one counts from when it was due, so that a stall is seen
 *   load streams each connection reads the events of a stream for as long as it lasts, and asks again
 *   load held    each connection sends one request; ends when all are answered or closed
 *
 *   --address 127.0.0.1 --port 8080 --request FILE --connections 32 --warm 1 --seconds 4 [--rate 500] [--opening 256]
 *
 * Prints one JSON line when the measured time begins and one at its end: {"mark": …} with the instant on the monotonic
 * clock in microseconds, counts and latencies in microseconds. Requests of the warm-up are not counted.
 */
#include "http.h"

enum mode { CLOSED, PACED, STREAMS, HELD };

struct connection {
  int fd, index, newline, fresh;
  enum { SHUT, OPENING, IDLE, BUSY } at;
  size_t sent;
  long long began, events;
  struct message in;
};

static enum mode mode;
static struct connection *all;
static int connections, poller, opening, opening_limit, *idle, idle_count, idle_room;
static struct sockaddr_in address;
static char *request;
static size_t request_size;
static int measuring;
static long long answered, failed, events, started_streams, statuses[600], first_answer, last_answer;
static unsigned *latencies, *delays;
static size_t latency_count, latency_room, delay_count, delay_room;
static char sample[512];
/* Paced: the requests that are due and have no connection yet wait in order of time. */
static long long origin, due_next, issued;
static double spacing;

static void note(unsigned **list, size_t *count, size_t *room, long long value) {
  if (*count == *room) *list = realloc(*list, sizeof **list * (*room = *room ? 2 * *room : 65536));
  (*list)[(*count)++] = value < 0 ? 0 : (unsigned)value;
}

static void watch(struct connection *c, int how) {
  struct epoll_event event = {.events = EPOLLIN | (c->at == OPENING || how ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(poller, c->fresh ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->fd, &event);
  c->fresh = 0;
}

static void open_one(struct connection *c) {
  int on = 1;
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (c->fd < 0) die("load: socket");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  connect(c->fd, (struct sockaddr *)&address, sizeof address);
  c->at = OPENING, c->fresh = 1, opening++;
  watch(c, 1);
}

static void shut(struct connection *c) {
  if (c->at == OPENING) opening--;
  close(c->fd);
  c->fd = -1, c->at = SHUT;
}

static void fail(struct connection *c, const char *why) {
  if (c->at == BUSY || c->at == OPENING) {
    if (measuring) failed++;
    if (mode == HELD) c->events = -1;
    if (!*sample) snprintf(sample, sizeof sample, "%s", why);
  }
  shut(c);
}

static void push(struct connection *c) {
  while (c->sent < request_size) {
    ssize_t sent = send(c->fd, request + c->sent, request_size - c->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) {
      watch(c, 1);
      return;
    }
    if (sent < 0) {
      fail(c, "closed while sending");
      return;
    }
    c->sent += (size_t)sent;
  }
}

static void begin(struct connection *c, long long due) {
  c->at = BUSY, c->sent = 0, c->began = due, c->events = 0, c->newline = 0;
  message_reset(&c->in);
  push(c);
}

/* What an open connection does that has nothing to do. */
static void next(struct connection *c, long long now) {
  if (mode == HELD && c->events < 0) shut(c);
  else if (mode != PACED) begin(c, now);
  else if (due_next <= now && issued) begin(c, due_next), issued++, due_next = origin + (long long)(issued * spacing);
  else c->at = IDLE, idle[idle_count < idle_room ? idle_count++ : idle_count - 1] = c->index;
}

static void count_events(void *owner, const char *data, size_t size) {
  struct connection *c = owner;
  for (const char *at = data, *end = data + size; at < end; at++) {
    if (c->newline && *at == '\n') {
      if (!c->events++) started_streams++;
      if (measuring) events++;
      c->newline = 0;
      continue;
    }
    at = memchr(at, '\n', (size_t)(end - at));
    c->newline = at != NULL;
    if (!at) break;
  }
  /* The first event of what came is the one that waited longest. */
  const char *sent = measuring ? memmem(data, size, "\"sent\":", 7) : NULL;
  if (sent && sent + 23 <= data + size) note(&delays, &delay_count, &delay_room, now_us() - strtoll(sent + 7, NULL, 10));
}

static void finish(struct connection *c, long long now) {
  int status = atoi(c->in.head + 9);
  const char *after = message_header(&c->in, "connection");
  int close_it = after && !strncasecmp(after, "close", 5);
  if (status != 200 && !*sample) snprintf(sample, sizeof sample, "%.*s", c->in.head_size, c->in.head);
  if (measuring) {
    answered++, statuses[status > 0 && status < 600 ? status : 0]++;
    if (mode != STREAMS) note(&latencies, &latency_count, &latency_room, now - c->began);
    if (status == 200 && !first_answer) first_answer = now;
    if (status == 200) last_answer = now;
  }
  c->at = IDLE;
  if (mode == HELD) c->events = -1;
  if (close_it || mode == HELD) shut(c);
  else next(c, now);
}

static void receive(struct connection *c) {
  static char data[262144];
  ssize_t got = recv(c->fd, data, sizeof data, 0);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) {
    fail(c, got ? strerror(errno) : "closed before the end of the answer");
    return;
  }
  long long now = now_us();
  for (ssize_t used = 0; used < got && c->at == BUSY;) {
    ssize_t taken = message_take(&c->in, data + used, (size_t)(got - used), mode == STREAMS ? count_events : NULL, c);
    if (taken < 0) {
      fail(c, "not HTTP");
      return;
    }
    used += taken;
    if (c->in.at == DONE) finish(c, now);
  }
}

static void ready(struct connection *c, unsigned what, long long now) {
  if (c->at == OPENING) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
      fail(c, strerror(error));
      return;
    }
    opening--, c->at = IDLE;
    watch(c, 0);
    next(c, now);
  } else {
    if (what & EPOLLOUT) {
      watch(c, 0);
      push(c);
    }
    if (c->at != SHUT && what & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
  }
}

/* Open what is shut, a bounded number at a time; return how many are open. */
static int keep_open(void) {
  int open = 0;
  for (int i = 0; i < connections; i++) {
    if (all[i].at == SHUT && opening < opening_limit && !(mode == HELD && all[i].events < 0)) open_one(&all[i]);
    open += all[i].at == BUSY || all[i].at == IDLE;
  }
  return open;
}

static void issue(long long now) {
  while (issued && due_next <= now && idle_count) {
    struct connection *c = &all[idle[--idle_count]];
    if (c->at != IDLE) continue;
    begin(c, due_next);
    issued++, due_next = origin + (long long)(issued * spacing);
  }
}

static int turn(long long until) {
  struct epoll_event got[512];
  long long now = now_us(), wake = mode == PACED && issued && idle_count && due_next < until ? due_next : until;
  long long wait = wake > now ? wake - now : 0;
  if (wait > 20000) wait = 20000;
  struct timespec patience = {0, wait * 1000};
  int count = epoll_pwait2(poller, got, 512, &patience, NULL);
  now = now_us();
  for (int i = 0; i < count; i++) ready(got[i].data.ptr, got[i].events, now);
  issue(now_us());
  return count;
}

static int unfinished(void) {
  int left = 0;
  for (int i = 0; i < connections; i++) left += all[i].events >= 0;
  return left;
}

static int by_size(const void *one, const void *other) {
  unsigned a = *(const unsigned *)one, b = *(const unsigned *)other;
  return a < b ? -1 : a > b;
}

static unsigned quantile(const unsigned *list, size_t count, double q) {
  return count ? list[(size_t)(q * (double)(count - 1) + 0.5)] : 0;
}

static void spread(const char *name, unsigned *list, size_t count) {
  qsort(list, count, sizeof *list, by_size);
  printf(", \"%s\": {\"count\": %zu, \"p50\": %u, \"p90\": %u, \"p99\": %u, \"max\": %u}", name, count,
         quantile(list, count, 0.5), quantile(list, count, 0.9), quantile(list, count, 0.99), quantile(list, count, 1));
}

static void mark(const char *name) {
  printf("{\"mark\": \"%s\", \"us\": %lld, \"open\": %d, \"streams\": %lld}\n", name, now_us(), keep_open(), started_streams);
  fflush(stdout);
}

static void report(long long began) {
  long long now = now_us();
  printf("{\"mark\": \"end\", \"us\": %lld, \"seconds\": %.6f, \"answered\": %lld, \"failed\": %lld, \"events\": %lld", now,
         (double)(now - began) / 1e6, answered, failed, events);
  printf(", \"first_us\": %lld, \"last_us\": %lld, \"statuses\": {", first_answer, last_answer);
  for (int status = 0, some = 0; status < 600; status++)
    if (statuses[status]) printf("%s\"%d\": %lld", some++ ? ", " : "", status, statuses[status]);
  printf("}, \"sample\": \"");
  for (const char *at = sample; *at; at++)
    if (*at >= ' ' && *at != '"' && *at != '\\') putchar(*at);
    else putchar(' ');
  putchar('"');
  if (mode == PACED) {
    printf(", \"raw\": [");
    for (size_t i = 0; i < latency_count; i++) printf("%s%u", i ? "," : "", latencies[i]);
    printf("]");
  }
  spread("latency_us", latencies, latency_count);
  spread("delay_us", delays, delay_count);
  printf("}\n");
  fflush(stdout);
}

static void load_request(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) die("load: --request");
  request = malloc(1 << 20);
  request_size = fread(request, 1, 1 << 20, file);
  fclose(file);
}

int main(int count, char **values) {
  static const char *const names[] = {"closed", "paced", "streams", "held"};
  for (mode = CLOSED; mode <= HELD && (count < 2 || strcmp(values[1], names[mode])); mode++) {
  }
  if (mode > HELD) return fprintf(stderr, "load: closed, paced, streams or held?\n"), 2;
  many_files();
  load_request(flag(count, values, "--request", "/dev/null"));
  connections = (int)number(count, values, "--connections", 32);
  opening_limit = (int)number(count, values, "--opening", 256);
  address.sin_family = AF_INET, address.sin_port = htons((unsigned short)number(count, values, "--port", 8080));
  inet_pton(AF_INET, flag(count, values, "--address", "127.0.0.1"), &address.sin_addr);
  poller = epoll_create1(0);
  idle_room = connections * 4 + 4096;
  all = calloc((size_t)connections, sizeof *all), idle = calloc((size_t)idle_room, sizeof *idle);
  for (int i = 0; i < connections; i++) all[i].index = i, all[i].fd = -1;
  long long warm = (long long)(1e6 * atof(flag(count, values, "--warm", "1")));
  long long length = (long long)(1e6 * atof(flag(count, values, "--seconds", "4")));
  if (mode == PACED) {
    long long patience = now_us() + 10000000;
    while (keep_open() < connections && now_us() < patience) turn(patience);
    spacing = 1e6 / (double)number(count, values, "--rate", 500);
    origin = now_us(), issued = 1, due_next = origin + (long long)spacing;
  }
  long long began = now_us();
  if (mode == HELD) {
    measuring = 1;
    /* All requests are on their way when every connection is open and has sent its bytes. */
    while (keep_open() < unfinished() && now_us() < began + length) turn(began + length);
    mark("sent");
    while (unfinished() && now_us() < began + length) keep_open(), turn(began + length);
  } else {
    while (now_us() < began + warm) keep_open(), turn(began + warm);
    mark("begin");
    began = now_us(), measuring = 1;
    while (now_us() < began + length) keep_open(), turn(began + length);
  }
  report(began);
}
