/* A group of librdkafka consumers in one process, and how long it takes until every partition has one owner again.
 *
 * Owns: three times, each from the event to the moment when all partitions are owned, each by one member, and every
 * member owns some: all members start; partitions are added; every member leaves and comes back, one after the other.
 * Refuses: to count a partition that has two owners as owned.
 * Prints one JSON object, times in milliseconds.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "rdkafka.h"

#define SECOND 1000000000ull
#define LIMIT (180 * SECOND)

static const char *brokers, *topic, *group;
static int members = 10, before = 10, added = 900;
static rd_kafka_t **handles;
static rd_kafka_conf_t *base;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(2);
}

static void start_member(int i) {
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_dup(base);
    handles[i] = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why));
    if (!handles[i]) fail("consumer", why);
    rd_kafka_poll_set_consumer(handles[i]);
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, topic, RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t error = rd_kafka_subscribe(handles[i], topics);
    if (error) fail("subscribe", rd_kafka_err2str(error));
    rd_kafka_topic_partition_list_destroy(topics);
}

static void poll_members(void) {
    for (int i = 0; i < members; i++) {
        if (!handles[i]) continue;
        rd_kafka_message_t *message = rd_kafka_consumer_poll(handles[i], 0);
        if (message) rd_kafka_message_destroy(message);
    }
    usleep(1000);
}

/* How many partitions have one owner; -1 when one has two, or a member has none. */
static int owned(int partitions) {
    char *owners = calloc((size_t)partitions, 1);
    int count = 0, wrong = 0;
    for (int i = 0; i < members; i++) {
        rd_kafka_topic_partition_list_t *mine;
        if (!handles[i] || rd_kafka_assignment(handles[i], &mine)) continue;
        if (!mine->cnt) wrong = 1;
        for (int j = 0; j < mine->cnt; j++) {
            int p = mine->elems[j].partition;
            if (p >= partitions) continue;
            if (owners[p]++) wrong = 1;
            else count++;
        }
        rd_kafka_topic_partition_list_destroy(mine);
    }
    free(owners);
    return wrong ? -1 : count;
}

static double wait_until_owned(const char *what, int partitions, uint64_t since) {
    for (uint64_t checked = 0;;) {
        poll_members();
        uint64_t at = now();
        if (at - checked < SECOND / 100) continue;
        checked = at;
        if (owned(partitions) == partitions) return (double)(at - since) / 1e6;
        if (at - since > LIMIT) fail(what, "not every partition was owned in time");
    }
}

/* While the group is polled, so that nobody is missed. */
static void add_partitions(void) {
    char why[256];
    rd_kafka_NewPartitions_t *more = rd_kafka_NewPartitions_new(topic, (size_t)(before + added), why, sizeof(why));
    rd_kafka_queue_t *queue = rd_kafka_queue_new(handles[0]);
    rd_kafka_CreatePartitions(handles[0], &more, 1, NULL, queue);
    for (;;) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 0);
        poll_members();
        if (!event) continue;
        if (rd_kafka_event_error(event)) fail("adding partitions", rd_kafka_event_error_string(event));
        rd_kafka_event_destroy(event);
        break;
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewPartitions_destroy(more);
}

int main(int argc, char **argv) {
    char why[256];
    base = rd_kafka_conf_new();
    int option;
    while ((option = getopt(argc, argv, "b:t:g:n:p:a:X:")) != -1) {
        char *equals;
        switch (option) {
        case 'b': brokers = optarg; break;
        case 't': topic = optarg; break;
        case 'g': group = optarg; break;
        case 'n': members = atoi(optarg); break;
        case 'p': before = atoi(optarg); break;
        case 'a': added = atoi(optarg); break;
        case 'X':
            if ((equals = strchr(optarg, '='))) {
                *equals = 0;
                if (rd_kafka_conf_set(base, optarg, equals + 1, why, sizeof(why))) fail(optarg, why);
                break;
            } /* fall through */
        default: fail("usage", "rebalance -b BROKERS -t TOPIC -g GROUP [-n MEMBERS] [-p PARTITIONS] [-a ADDED] [-X key=value]");
        }
    }
    if (!brokers || !topic || !group || members < 1) fail("usage", "see the source");
    if (rd_kafka_conf_set(base, "bootstrap.servers", brokers, why, sizeof(why))) fail("bootstrap.servers", why);
    if (rd_kafka_conf_set(base, "group.id", group, why, sizeof(why))) fail("group.id", why);
    handles = calloc((size_t)members, sizeof(*handles));
    uint64_t begun = now();
    for (int i = 0; i < members; i++) start_member(i);
    double joined = wait_until_owned("joining", before, begun);
    for (uint64_t until = now() + SECOND; now() < until;) poll_members();
    begun = now();
    add_partitions();
    double grown = wait_until_owned("adding partitions", before + added, begun);
    begun = now();
    for (int i = 0; i < members; i++) {
        rd_kafka_consumer_close(handles[i]);
        rd_kafka_destroy(handles[i]);
        handles[i] = NULL;
        start_member(i);
        wait_until_owned("a restart", before + added, now());
    }
    double rolled = (double)(now() - begun) / 1e6;
    printf("{\"joined_ms\":%.1f,\"grown_ms\":%.1f,\"rolled_ms\":%.1f}\n", joined, grown, rolled);
    fflush(stdout);
    _exit(0);
}
