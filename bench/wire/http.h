/* What the backend and the load generator share: HTTP answers and requests taken apart as they come, and time. */
#ifndef ZEROTIDE_BENCH_HTTP_H
#define ZEROTIDE_BENCH_HTTP_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_LIMIT 4096

static inline long long now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static inline void die(const char *what) {
  perror(what);
  exit(1);
}

static inline void many_files(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

/* A message as it comes: its head, then its body by length or by chunks. */
struct message {
  enum { HEAD, LENGTH, SIZE, DATA, AFTER, TRAILER, DONE } at;
  int head_size, chunked, line;
  unsigned long long left;
  char head[HEAD_LIMIT];
};

static inline void message_reset(struct message *m) {
  m->at = HEAD, m->head_size = 0, m->chunked = 0, m->line = 0, m->left = 0;
}

/* Return a header's value in the (zero-ended) head, or NULL. */
static inline const char *message_header(const struct message *m, const char *name) {
  size_t size = strlen(name);
  for (const char *line = strstr(m->head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
    if (!strncasecmp(line + 2, name, size) && line[2 + size] == ':') return line + 3 + size + strspn(line + 3 + size, " ");
  return NULL;
}

static inline int message_headed(struct message *m) {
  m->head[m->head_size] = 0;
  const char *coding = message_header(m, "transfer-encoding"), *length = message_header(m, "content-length");
  m->chunked = coding && !strncasecmp(coding, "chunked", 7);
  m->left = length ? strtoull(length, NULL, 10) : 0;
  m->at = m->chunked ? SIZE : m->left ? LENGTH : DONE;
  if (m->chunked) m->left = 0;
  return 0;
}

/* Take bytes; `body` is called with each piece of the body. Return how many were taken, or -1: not HTTP. */
static inline ssize_t message_take(struct message *m, const char *data, size_t size,
                                   void (*body)(void *, const char *, size_t), void *owner) {
  size_t used = 0;
  while (used < size && m->at != DONE) {
    const char *at = data + used;
    size_t have = size - used;
    if (m->at == HEAD) {
      size_t before = m->head_size, room = HEAD_LIMIT - 1 - before, part = have < room ? have : room;
      memcpy(m->head + before, at, part);
      size_t from = before > 3 ? before - 3 : 0;
      char *end = memmem(m->head + from, before + part - from, "\r\n\r\n", 4);
      if (!end && part == room) return -1;
      m->head_size = end ? (int)(end + 4 - m->head) : (int)(before + part);
      used += end ? (size_t)m->head_size - before : part;
      if (end) message_headed(m);
    } else if (m->at == LENGTH || m->at == DATA) {
      size_t part = have < m->left ? have : m->left;
      if (body) body(owner, at, part);
      used += part, m->left -= part;
      if (!m->left) m->at = m->at == LENGTH ? DONE : AFTER;
    } else if (m->at == AFTER) {
      used++;
      if (*at == '\n') m->at = SIZE, m->left = 0;
    } else if (m->at == SIZE) {
      used++;
      int digit = *at >= '0' && *at <= '9'   ? *at - '0'
                  : *at >= 'a' && *at <= 'f' ? *at - 'a' + 10
                  : *at >= 'A' && *at <= 'F' ? *at - 'A' + 10
                                             : -1;
      if (digit >= 0) m->left = m->left * 16 + (unsigned)digit;
      else if (*at == '\n') m->at = m->left ? DATA : TRAILER, m->line = 0;
      else if (*at != '\r') return -1;
    } else {
      used++;
      if (*at == '\n' && !m->line) m->at = DONE;
      else m->line = *at == '\n' ? 0 : *at == '\r' ? m->line : 1;
    }
  }
  return (ssize_t)used;
}

static inline const char *flag(int count, char **values, const char *name, const char *fallback) {
  for (int i = 1; i + 1 < count; i++)
    if (!strcmp(values[i], name)) return values[i + 1];
  return fallback;
}

static inline long number(int count, char **values, const char *name, long fallback) {
  const char *value = flag(count, values, name, NULL);
  return value ? strtol(value, NULL, 10) : fallback;
}

#endif
