/* A loopback chat-completions server that costs next to nothing: one thread, epoll, a fixed reply after a fixed delay.
 *
 *   server DELAY_MS     prints "port N" on stdout, then serves until it is killed
 *   GET /stats          {"requests": total, "peak": most in flight}
 *   POST anything       the reply of a chat completion, DELAY_MS after the last byte of the request
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define MAX_FD 65536
#define BUFFER (256 * 1024)

struct connection { char *data; size_t used; unsigned epoch; };
struct due { double at; int fd; unsigned epoch; };

static struct connection connections[MAX_FD];
static struct due queue[MAX_FD]; /* a ring: the delay is constant, so what comes first is due first */
static size_t head, tail;
static unsigned long requests, in_flight, peak;
static char reply[4096];
static size_t reply_length;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void make_reply(void) {
    char text[700], body[2048];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    int n = snprintf(body, sizeof body,
        "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"bench\","
        "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
        "\"{\\\"label\\\": \\\"billing\\\", \\\"score\\\": 3, \\\"why\\\": \\\"%s\\\"}\",\"refusal\":null},"
        "\"logprobs\":null,\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":120,\"completion_tokens\":60,\"total_tokens\":180}}", text);
    reply_length = snprintf(reply, sizeof reply,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: req_bench\r\nContent-Length: %d\r\n\r\n%s",
        n, body);
}

static void drop(int fd) {
    free(connections[fd].data);
    connections[fd].data = NULL;
    connections[fd].used = 0;
    connections[fd].epoch++;
    close(fd);
}

static void answer_stats(int fd) {
    char body[128], out[256];
    int n = snprintf(body, sizeof body, "{\"requests\": %lu, \"peak\": %lu}", requests, peak);
    int m = snprintf(out, sizeof out, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", n, body);
    if (write(fd, out, m) != m) drop(fd);
}

/* Takes whole requests off the buffer; 0 if the connection is to be dropped. */
static int take_requests(int fd, double delay) {
    struct connection *c = &connections[fd];
    for (;;) {
        c->data[c->used] = 0;
        char *end = strstr(c->data, "\r\n\r\n");
        if (!end) return 1;
        size_t length = end + 4 - c->data;
        if (!strncmp(c->data, "GET ", 4)) {
            answer_stats(fd);
        } else {
            char *field = strcasestr(c->data, "\r\ncontent-length:");
            if (!field || field > end) return 0;
            length += strtoul(field + 17, NULL, 10);
            if (length >= BUFFER) return 0;
            if (c->used < length) return 1;
            requests++;
            if (++in_flight > peak) peak = in_flight;
            queue[tail] = (struct due){now() + delay, fd, c->epoch};
            tail = (tail + 1) % MAX_FD;
        }
        if (!c->data) return 1;
        memmove(c->data, c->data + length, c->used - length);
        c->used -= length;
    }
}

static void accept_all(int listener, int poll) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MAX_FD || !(connections[fd].data = malloc(BUFFER + 1))) { close(fd); continue; }
        connections[fd].used = 0;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e);
    }
}

static void receive(int fd, double delay) {
    struct connection *c = &connections[fd];
    ssize_t n = read(fd, c->data + c->used, BUFFER - c->used);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) { drop(fd); return; }
    c->used += n;
    if (!take_requests(fd, delay)) drop(fd);
}

static void send_due(void) {
    double t = now();
    while (head != tail && queue[head].at <= t) {
        struct due d = queue[head];
        head = (head + 1) % MAX_FD;
        in_flight--;
        if (connections[d.fd].data && connections[d.fd].epoch == d.epoch && write(d.fd, reply, reply_length) < 0)
            drop(d.fd);
    }
}

int main(int argc, char **argv) {
    double delay = argc > 1 ? atof(argv[1]) / 1000 : 0.02;
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    make_reply();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) { perror("bind"); return 1; }
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    int poll = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(poll, events, 256, head == tail ? -1 : 1);
        for (int i = 0; i < n; i++)
            if (events[i].data.fd == listener) accept_all(listener, poll);
            else if (connections[events[i].data.fd].data) receive(events[i].data.fd, delay);
        send_due();
    }
}
