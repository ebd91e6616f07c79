// franz-go: admin, every compression, idempotence, transactions with offsets, groups of both protocols, offsets by time.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const count = 600

var bootstrap = os.Args[1]

func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}

func client(options ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(bootstrap))...)
	check(err)
	return client
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 150*time.Second)
	defer cancel()
	admin := kadm.NewClient(client())
	defer admin.Close()
	for _, step := range []func(context.Context, *kadm.Client){topics, produce, copyAll, verify, share, remove} {
		step(ctx, admin)
	}
	fmt.Println("done")
}

func topics(ctx context.Context, admin *kadm.Client) {
	retention := "86400000"
	created, err := admin.CreateTopics(ctx, 2, 1, map[string]*string{"retention.ms": &retention}, "franz-in", "franz-out")
	check(err)
	check(created.Error())
	again, err := admin.CreateTopic(ctx, 2, 1, nil, "franz-in")
	if !errors.Is(err, kerr.TopicAlreadyExists) {
		log.Panicf("created twice: %v %v", again, err)
	}
	grown, err := admin.UpdatePartitions(ctx, 3, "franz-in")
	check(err)
	check(grown.Error())
	longest := "2000000"
	altered, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "max.message.bytes", Value: &longest}}, "franz-in")
	check(err)
	check(altered[0].Err)
	configs, err := admin.DescribeTopicConfigs(ctx, "franz-in")
	check(err)
	set := map[string]string{}
	for _, config := range configs[0].Configs {
		set[config.Key] = config.MaybeValue()
	}
	if set["max.message.bytes"] != longest || set["retention.ms"] != retention {
		log.Panic(set)
	}
}

func produce(ctx context.Context, _ *kadm.Client) {
	codecs := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
	for from := 0; from < count; from += count / len(codecs) {
		codec := codecs[from*len(codecs)/count]
		producer := client(kgo.ProducerBatchCompression(codec), kgo.DefaultProduceTopic("franz-in"))
		records := []*kgo.Record{}
		for n := from; n < from+count/len(codecs); n++ {
			key := []byte(strconv.Itoa(n))
			headers := []kgo.RecordHeader{{Key: "n", Value: key}}
			records = append(records, &kgo.Record{Key: key, Value: []byte("value " + string(key)), Headers: headers})
		}
		check(producer.ProduceSync(ctx, records...).FirstErr())
		producer.Close()
	}
}

// Every third transaction is aborted, and its records come again.
func copyAll(ctx context.Context, admin *kadm.Client) {
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(bootstrap), kgo.TransactionalID("franz-copier"), kgo.ConsumerGroup("franz-copier"),
		kgo.ConsumeTopics("franz-in"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DefaultProduceTopic("franz-out"), kgo.FetchMaxPartitionBytes(2000),
	)
	check(err)
	defer session.Close()
	for tries, copied := 1, 0; copied < count; tries++ {
		fetches := session.PollRecords(ctx, 50)
		check(fetches.Err0())
		check(session.Begin())
		produced := kgo.AbortingFirstErrPromise(session.Client())
		fetches.EachRecord(func(record *kgo.Record) {
			session.Produce(ctx, &kgo.Record{Key: record.Key, Value: record.Value, Headers: record.Headers}, produced.Promise())
		})
		wanted := kgo.TransactionEndTry(tries%3 != 0 && produced.Err() == nil)
		committed, err := session.End(ctx, wanted)
		check(err)
		if committed {
			copied += fetches.NumRecords()
		}
	}
	offsets, err := admin.FetchOffsets(ctx, "franz-copier")
	check(err)
	sum := int64(0)
	offsets.Each(func(offset kadm.OffsetResponse) { sum += offset.At })
	if sum != count {
		log.Panicf("offsets of %d records are committed", sum)
	}
}

func verify(ctx context.Context, admin *kadm.Client) {
	reader := client(kgo.ConsumeTopics("franz-out"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer reader.Close()
	seen := map[string]bool{}
	for len(seen) < count {
		fetches := reader.PollFetches(ctx)
		check(fetches.Err0())
		fetches.EachRecord(func(record *kgo.Record) {
			key := string(record.Key)
			if seen[key] || string(record.Headers[0].Value) != key {
				log.Panicf("%s comes twice or with other headers", key)
			}
			seen[key] = true
		})
	}
	for _, moment := range []struct {
		time int64
		sum  int64
	}{{0, 0}, {time.Now().Add(time.Hour).UnixMilli(), count}} {
		offsets, err := admin.ListOffsetsAfterMilli(ctx, moment.time, "franz-in")
		check(err)
		sum := int64(0)
		offsets.Each(func(offset kadm.ListedOffset) { sum += offset.Offset })
		if sum != moment.sum {
			log.Panicf("offsets at %d add up to %d", moment.time, sum)
		}
	}
}

// A second member takes partitions over, by each protocol.
func share(ctx context.Context, admin *kadm.Client) {
	for _, protocol := range []string{"classic", "consumer"} {
		group := "franz-shared-" + protocol
		options := []kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics("franz-in"), kgo.HeartbeatInterval(500 * time.Millisecond)}
		if protocol == "consumer" {
			options = append(options, kgo.ServerSideBalancer())
		}
		members := []*kgo.Client{}
		for range 2 {
			member := client(options...)
			go func() {
				for !member.PollFetches(ctx).IsClientClosed() {
				}
			}()
			members = append(members, member)
		}
		for !shared(ctx, admin, group) {
			check(ctx.Err())
			time.Sleep(200 * time.Millisecond)
		}
		for _, member := range members {
			member.Close()
		}
	}
}

// Whether the partitions are with two members.
func shared(ctx context.Context, admin *kadm.Client, group string) bool {
	lags, err := admin.Lag(ctx, group)
	check(err)
	owners, partitions := map[string]bool{}, 0
	lag := lags[group]
	for _, partition := range lag.Lag.Sorted() {
		if partition.Member != nil {
			owners[partition.Member.MemberID] = true
			partitions++
		}
	}
	if len(owners) == 2 && partitions == 3 {
		return true
	}
	described, err := admin.DescribeConsumerGroups(ctx, group)
	if err != nil || described[group].Err != nil {
		return false
	}
	for _, member := range described[group].Members {
		for _, assigned := range member.Assignment.Sorted() {
			owners[member.MemberID] = true
			partitions += len(assigned.Partitions)
		}
	}
	return len(owners) == 2 && partitions == 3
}

func remove(ctx context.Context, admin *kadm.Client) {
	places := kadm.Offsets{}
	places.Add(kadm.Offset{Topic: "franz-in", Partition: 0, At: 1})
	deleted, err := admin.DeleteRecords(ctx, places)
	check(err)
	check(deleted.Error())
	groups, err := admin.DeleteGroups(ctx, "franz-copier", "franz-shared-classic", "franz-shared-consumer")
	check(err)
	check(groups.Error())
	topics, err := admin.DeleteTopics(ctx, "franz-in", "franz-out")
	check(err)
	check(topics.Error())
}
