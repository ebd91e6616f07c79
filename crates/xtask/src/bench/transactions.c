/* Transactional producers on librdkafka, each in a thread of its own.
 *
 * Owns: begin, so many records over all partitions, commit, again until the time is over; what it counts begins after
 * the warm-up. With -p the same records are sent and flushed without a transaction, for what that costs.
 * Refuses: to go on after any failure, so that every transaction counted is one that committed.
 * Prints one JSON object.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "rdkafka.h"

#define SECOND 1000000000ull
#define MOST 2000000

static const char *brokers, *topic, *payload_file;
static double seconds = 10, warmup = 2;
static int producers = 1, records = 100, partitions = 6, plain;
static size_t size = 1024;
static uint64_t begins_at, ends_at;
static char payload[1 << 16];

struct producer {
    pthread_t thread;
    rd_kafka_t *handle;
    /* Those that count, and all. */
    uint64_t done, all, *commits;
    int number;
};

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(2);
}

static void check(const char *what, rd_kafka_error_t *error) {
    if (error) fail(what, rd_kafka_error_string(error));
}

static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
    (void)rk;
    (void)opaque;
    if (message->err) fail("delivery", rd_kafka_err2str(message->err));
}

static void send_records(struct producer *p) {
    for (int i = 0; i < records; i++) {
        rd_kafka_resp_err_t error =
            rd_kafka_producev(p->handle, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(i % partitions),
                              RD_KAFKA_V_VALUE(payload, size), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        if (error) fail("produce", rd_kafka_err2str(error));
    }
}

static void *work(void *argument) {
    struct producer *p = argument;
    while (now() < ends_at) {
        if (!plain) check("begin", rd_kafka_begin_transaction(p->handle));
        send_records(p);
        rd_kafka_resp_err_t flushed = rd_kafka_flush(p->handle, 60000);
        if (flushed) fail("flush", rd_kafka_err2str(flushed));
        uint64_t asked = now();
        if (!plain) check("commit", rd_kafka_commit_transaction(p->handle, 60000));
        uint64_t at = now();
        p->all++;
        if (asked >= begins_at && at <= ends_at && p->done < MOST) p->commits[p->done++] = at - asked;
    }
    return NULL;
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void start_producer(struct producer *p, rd_kafka_conf_t *base, int number) {
    char why[256], id[64];
    rd_kafka_conf_t *conf = rd_kafka_conf_dup(base);
    snprintf(id, sizeof(id), "bench-%d-%d", (int)getpid(), number);
    if (!plain && rd_kafka_conf_set(conf, "transactional.id", id, why, sizeof(why))) fail("transactional.id", why);
    p->handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
    if (!p->handle) fail("producer", why);
    if (!plain) check("init", rd_kafka_init_transactions(p->handle, 60000));
    p->commits = calloc(MOST, sizeof(*p->commits));
    p->number = number;
}

int main(int argc, char **argv) {
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    int option;
    while ((option = getopt(argc, argv, "b:t:f:d:w:n:r:P:s:X:p")) != -1) {
        char *equals;
        switch (option) {
        case 'b': brokers = optarg; break;
        case 't': topic = optarg; break;
        case 'f': payload_file = optarg; break;
        case 'd': seconds = atof(optarg); break;
        case 'w': warmup = atof(optarg); break;
        case 'n': producers = atoi(optarg); break;
        case 'r': records = atoi(optarg); break;
        case 'P': partitions = atoi(optarg); break;
        case 's': size = strtoull(optarg, NULL, 10); break;
        case 'p': plain = 1; break;
        case 'X':
            if ((equals = strchr(optarg, '='))) {
                *equals = 0;
                if (rd_kafka_conf_set(conf, optarg, equals + 1, why, sizeof(why))) fail(optarg, why);
                break;
            } /* fall through */
        default: fail("usage", "transactions -b BROKERS -t TOPIC -f PAYLOADS [-n PRODUCERS] [-r RECORDS] [-P PARTITIONS] "
                               "[-s SIZE] [-d SECONDS] [-w WARMUP] [-p] [-X key=value]");
        }
    }
    if (!brokers || !topic || !payload_file || producers < 1 || size > sizeof(payload)) fail("usage", "see the source");
    FILE *file = fopen(payload_file, "r");
    if (!file || fread(payload, 1, size, file) != size) fail(payload_file, "too few bytes");
    if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof(why))) fail("bootstrap.servers", why);
    struct producer *all = calloc((size_t)producers, sizeof(*all));
    for (int i = 0; i < producers; i++) start_producer(&all[i], conf, i);
    fprintf(stderr, "connected\n");
    begins_at = now() + (uint64_t)(warmup * SECOND);
    ends_at = begins_at + (uint64_t)(seconds * SECOND);
    for (int i = 0; i < producers; i++) pthread_create(&all[i].thread, NULL, work, &all[i]);
    uint64_t done = 0, total = 0;
    for (int i = 0; i < producers; i++) {
        pthread_join(all[i].thread, NULL);
        done += all[i].done;
        total += all[i].all;
    }
    uint64_t *commits = calloc(done + 1, sizeof(*commits)), *end = commits;
    for (int i = 0; i < producers; i++) {
        memcpy(end, all[i].commits, all[i].done * sizeof(*end));
        end += all[i].done;
    }
    qsort(commits, done, sizeof(*commits), ascending);
    double p50 = done ? (double)commits[done / 2] / 1e6 : 0, p99 = done ? (double)commits[done * 99 / 100] / 1e6 : 0;
    printf("{\"transactions\":%" PRIu64 ",\"total\":%" PRIu64 ",\"seconds\":%.3f,\"p50_ms\":%.4f,\"p99_ms\":%.4f}\n",
           done, total, seconds, p50, p99);
    fflush(stdout);
    _exit(0);
}
