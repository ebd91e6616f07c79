/* An open-loop producer on librdkafka.
 *
 * Owns: a schedule fixed before the run (message i is due at start + i / rate), so that a server that falls behind is
 * charged for the waiting of every message it delayed. A latency is acknowledgement minus due time on one monotonic
 * clock; messages due in the warm-up are sent and not counted. Rate 0 sends as fast as the queue takes messages.
 * Refuses: to drop a message when the local queue is full; it waits, and the latency grows.
 * With -i and rate 0 it is a closed loop instead: so many messages are unacknowledged and no more, and a message is due
 * when there is room for it.
 * With several topics, client i writes to topic NAME-(i mod topics).
 * With -e a consumer in the same process reads the topic, and a latency is arrival minus due time, which the message
 * carries in its first bytes.
 * SIGINT ends the schedule early: what was sent by then is waited for and reported.
 * Prints one JSON object.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "rdkafka.h"

#define SECOND 1000000000ull
#define SUB_BITS 6
#define BUCKETS (64 * 66)

struct options {
    const char *brokers, *topic, *payloads;
    double rate, seconds, warmup, drain;
    uint64_t count, keys, seed;
    size_t size;
    int clients, topics, end_to_end, in_flight;
};

static struct options o = {.rate = 1000, .seconds = 10, .warmup = 2, .drain = 10, .seed = 1, .size = 100, .clients = 1,
                           .topics = 1};
static rd_kafka_t **handles;
static rd_kafka_topic_t **topics;
static uint64_t start_at;
static uint64_t histogram[BUCKETS], counted, highest, errors, acknowledged, last_ack;
static atomic_int polling = 1, stopped;
static sem_t room;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static uint64_t random_next(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* Log-linear buckets: exact below 128 ns, then 64 a power of two (1.6 % wide). */
static int bucket_of(uint64_t v) {
    int top = 63 - __builtin_clzll(v | 1);
    if (top <= SUB_BITS) return (int)v;
    return 128 + (top - SUB_BITS - 1) * 64 + (int)((v >> (top - SUB_BITS)) - 64);
}

static uint64_t bucket_end(int bucket) {
    if (bucket < 128) return (uint64_t)bucket;
    int top = (bucket - 128) / 64 + SUB_BITS + 1;
    uint64_t sub = (uint64_t)((bucket - 128) % 64) + 64;
    return ((sub + 1) << (top - SUB_BITS)) - 1;
}

static double quantile_ms(double q) {
    uint64_t rank = (uint64_t)(q * (double)counted), seen = 0;
    for (int i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if (seen > rank) return (double)(bucket_end(i) < highest ? bucket_end(i) : highest) / 1e6;
    }
    return (double)highest / 1e6;
}

static void count_latency(uint64_t latency) {
    histogram[bucket_of(latency)]++;
    counted++;
    if (latency > highest) highest = latency;
}

static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
    (void)rk;
    (void)opaque;
    uint64_t due = (uint64_t)(uintptr_t)message->_private, at = now();
    if (o.in_flight) sem_post(&room);
    if (message->err) {
        if (errors++ == 0) fprintf(stderr, "delivery: %s\n", rd_kafka_err2str(message->err));
        return;
    }
    if (o.end_to_end) return;
    acknowledged++;
    last_ack = at;
    if (due >= start_at + (uint64_t)(o.warmup * SECOND)) count_latency(at - due);
}

static void *poll_all(void *unused) {
    (void)unused;
    prctl(PR_SET_TIMERSLACK, 1000ul);
    while (atomic_load(&polling)) {
        if (o.clients == 1) {
            rd_kafka_poll(handles[0], 100);
            continue;
        }
        for (int i = 0; i < o.clients; i++) rd_kafka_poll(handles[i], 0);
        usleep(500);
    }
    return NULL;
}

static rd_kafka_t *consumer;

/* Reads every partition of the one topic from its beginning. */
static void start_consumer(rd_kafka_conf_t *base) {
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_dup(base);
    rd_kafka_conf_set(conf, "group.id", "openloop", why, sizeof(why));
    rd_kafka_conf_set(conf, "enable.auto.commit", "false", why, sizeof(why));
    rd_kafka_conf_set(conf, "auto.offset.reset", "earliest", why, sizeof(why));
    consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why));
    const struct rd_kafka_metadata *metadata;
    if (!consumer || rd_kafka_metadata(handles[0], 0, topics[0], &metadata, 60000)) {
        fprintf(stderr, "no consumer: %s\n", why);
        exit(2);
    }
    rd_kafka_poll_set_consumer(consumer);
    rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(1);
    for (int i = 0; i < metadata->topics[0].partition_cnt; i++)
        rd_kafka_topic_partition_list_add(all, o.topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_assign(consumer, all);
    rd_kafka_topic_partition_list_destroy(all);
    rd_kafka_metadata_destroy(metadata);
}

static void *consume_all(void *unused) {
    (void)unused;
    prctl(PR_SET_TIMERSLACK, 1000ul);
    while (atomic_load(&polling)) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 100);
        if (!message) continue;
        uint64_t at = now(), due;
        if (message->err) {
            if (errors++ == 0) fprintf(stderr, "consume: %s\n", rd_kafka_message_errstr(message));
        } else if (message->len >= sizeof(due)) {
            memcpy(&due, message->payload, sizeof(due));
            acknowledged++;
            last_ack = at;
            if (due >= start_at + (uint64_t)(o.warmup * SECOND)) count_latency(at - due);
        }
        rd_kafka_message_destroy(message);
    }
    return NULL;
}

static char **lines;
static size_t line_count;

static void read_payloads(void) {
    FILE *file = fopen(o.payloads, "r");
    if (!file) {
        fprintf(stderr, "%s: %s\n", o.payloads, strerror(errno));
        exit(2);
    }
    size_t room = 0, length = 0;
    char *line = NULL;
    while (getline(&line, &length, file) > 0) {
        if (strlen(line) < o.size) continue;
        if (line_count == room) lines = realloc(lines, sizeof(*lines) * (room = room ? room * 2 : 1024));
        lines[line_count++] = strndup(line, o.size);
    }
    fclose(file);
    if (!line_count) {
        fprintf(stderr, "%s has no line of %zu bytes\n", o.payloads, o.size);
        exit(2);
    }
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value) {
    char why[256];
    if (rd_kafka_conf_set(conf, key, value, why, sizeof(why)) == RD_KAFKA_CONF_OK) return;
    fprintf(stderr, "%s=%s: %s\n", key, value, why);
    exit(2);
}

static double metadata_total, metadata_worst, metadata_all;

/* Every client connects and learns the topic before the schedule begins. */
static void connect_client(rd_kafka_conf_t *base, int i) {
    char why[256];
    handles[i] = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_dup(base), why, sizeof(why));
    if (!handles[i]) {
        fprintf(stderr, "client %d: %s\n", i, why);
        exit(2);
    }
    char name[256];
    snprintf(name, sizeof(name), o.topics > 1 ? "%s-%d" : "%s", o.topic, i % o.topics);
    topics[i] = rd_kafka_topic_new(handles[i], name, NULL);
    const struct rd_kafka_metadata *metadata;
    uint64_t asked = now();
    rd_kafka_resp_err_t error = rd_kafka_metadata(handles[i], 0, topics[i], &metadata, 60000);
    if (error) {
        fprintf(stderr, "client %d: metadata: %s\n", i, rd_kafka_err2str(error));
        exit(2);
    }
    rd_kafka_metadata_destroy(metadata);
    double took = (double)(now() - asked) / 1e6;
    metadata_total += took;
    if (took > metadata_worst) metadata_worst = took;
}

/* What one client waits for the metadata of every topic there is. */
static void ask_for_everything(void) {
    const struct rd_kafka_metadata *metadata;
    uint64_t asked = now();
    if (rd_kafka_metadata(handles[0], 1, NULL, &metadata, 60000)) return;
    metadata_all = (double)(now() - asked) / 1e6;
    rd_kafka_metadata_destroy(metadata);
}

static void send_one(uint64_t i, uint64_t due, uint64_t *random) {
    int client = (int)(i % (uint64_t)o.clients);
    char *line = lines[random_next(random) % line_count];
    char key[24];
    int key_length = 0;
    if (o.end_to_end) memcpy(line, &due, sizeof(due));
    if (o.keys) key_length = snprintf(key, sizeof(key), "%012" PRIu64, random_next(random) % o.keys);
    while (rd_kafka_produce(topics[client], RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, line, o.size,
                            key_length ? key : NULL, (size_t)key_length, (void *)(uintptr_t)due) == -1) {
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
            fprintf(stderr, "produce: %s\n", rd_kafka_err2str(rd_kafka_last_error()));
            exit(2);
        }
        usleep(200);
    }
}

static void wait_until(uint64_t due) {
    if (now() >= due) return;
    struct timespec at = {.tv_sec = (time_t)(due / SECOND), .tv_nsec = (long)(due % SECOND)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {}
}

static void stop(int signal) {
    (void)signal;
    atomic_store(&stopped, 1);
}

static uint64_t send_all(void) {
    uint64_t random = o.seed, total = o.rate > 0 ? (uint64_t)(o.rate * (o.warmup + o.seconds)) : o.count, i;
    double period = o.rate > 0 ? (double)SECOND / o.rate : 0;
    wait_until(start_at);
    for (i = 0; i < total && !atomic_load(&stopped); i++) {
        while (o.in_flight && sem_wait(&room) == -1 && errno == EINTR) {}
        uint64_t due = o.rate > 0 ? start_at + (uint64_t)((double)i * period) : now();
        if (o.rate > 0) wait_until(due);
        send_one(i, due, &random);
    }
    return i;
}

static uint64_t drain(uint64_t sent) {
    uint64_t limit = now() + (uint64_t)(o.drain * SECOND), waiting;
    do {
        waiting = 0;
        for (int i = 0; i < o.clients; i++) waiting += (uint64_t)rd_kafka_outq_len(handles[i]);
        if (o.end_to_end) waiting = sent - acknowledged;
        if (waiting) usleep(1000);
    } while (waiting && now() < limit);
    return waiting;
}

static void parse(int argc, char **argv, rd_kafka_conf_t *conf) {
    int option;
    while ((option = getopt(argc, argv, "b:t:T:f:r:d:w:g:c:i:k:S:s:n:X:e")) != -1) {
        char *equals;
        switch (option) {
        case 'b': o.brokers = optarg; break;
        case 't': o.topic = optarg; break;
        case 'T': o.topics = atoi(optarg); break;
        case 'f': o.payloads = optarg; break;
        case 'r': o.rate = atof(optarg); break;
        case 'd': o.seconds = atof(optarg); break;
        case 'w': o.warmup = atof(optarg); break;
        case 'g': o.drain = atof(optarg); break;
        case 'c': o.count = strtoull(optarg, NULL, 10); break;
        case 'i': o.in_flight = atoi(optarg); break;
        case 'k': o.keys = strtoull(optarg, NULL, 10); break;
        case 'S': o.seed = strtoull(optarg, NULL, 10); break;
        case 's': o.size = strtoull(optarg, NULL, 10); break;
        case 'n': o.clients = atoi(optarg); break;
        case 'e': o.end_to_end = 1; break;
        case 'X':
            if ((equals = strchr(optarg, '='))) {
                *equals = 0;
                set(conf, optarg, equals + 1);
                break;
            } /* fall through */
        default: fprintf(stderr, "unknown option\n"); exit(2);
        }
    }
    if (!o.brokers || !o.topic || !o.payloads || o.clients < 1 || o.topics < 1 ||
        (o.end_to_end && (o.topics > 1 || o.size < sizeof(uint64_t))) || (o.in_flight && o.rate > 0)) {
        fprintf(stderr, "usage: openloop -b BROKERS -t TOPIC -f PAYLOADS [-r RATE -d SECONDS -w WARMUP | -r 0 -c COUNT "
                        "[-i IN_FLIGHT]] [-s SIZE] [-n CLIENTS] [-T TOPICS] [-k KEYS] [-S SEED] [-g DRAIN] [-e] [-X key=value]\n");
        exit(2);
    }
}

static void report(uint64_t sent, uint64_t unfinished) {
    double took = (double)(last_ack - start_at) / 1e9;
    printf("{\"sent\":%" PRIu64 ",\"acknowledged\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"unfinished\":%" PRIu64
           ",\"seconds\":%.6f,\"counted\":%" PRIu64 ",\"p50_ms\":%.4f,\"p90_ms\":%.4f,\"p99_ms\":%.4f,\"p999_ms\":%.4f"
           ",\"max_ms\":%.4f,\"metadata_mean_ms\":%.3f,\"metadata_max_ms\":%.3f"
           ",\"metadata_all_ms\":%.3f}\n",
           sent, acknowledged, errors, unfinished, took, counted, quantile_ms(0.5), quantile_ms(0.9),
           quantile_ms(0.99), quantile_ms(0.999), (double)highest / 1e6, metadata_total / o.clients, metadata_worst, metadata_all);
    fflush(stdout);
}

int main(int argc, char **argv) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    parse(argc, argv, conf);
    set(conf, "bootstrap.servers", o.brokers);
    read_payloads();
    handles = calloc((size_t)o.clients, sizeof(*handles));
    topics = calloc((size_t)o.clients, sizeof(*topics));
    for (int i = 0; i < o.clients; i++) connect_client(conf, i);
    ask_for_everything();
    if (o.end_to_end) start_consumer(conf);
    prctl(PR_SET_TIMERSLACK, 1000ul);
    signal(SIGINT, stop);
    sem_init(&room, 0, (unsigned)o.in_flight);
    fprintf(stderr, "connected\n");
    start_at = now() + SECOND / 10;
    pthread_t poller, reader;
    pthread_create(&poller, NULL, poll_all, NULL);
    if (o.end_to_end) pthread_create(&reader, NULL, consume_all, NULL);
    uint64_t sent = send_all();
    uint64_t unfinished = drain(sent);
    atomic_store(&polling, 0);
    pthread_join(poller, NULL);
    if (o.end_to_end) pthread_join(reader, NULL);
    /* A message never acknowledged has waited until now at least. */
    if (unfinished && o.rate > 0) {
        uint64_t at = now();
        for (uint64_t i = sent - unfinished; i < sent; i++)
            count_latency(at - (start_at + (uint64_t)((double)i * SECOND / o.rate)));
    }
    report(sent, unfinished);
    _exit(errors ? 1 : 0);
}
