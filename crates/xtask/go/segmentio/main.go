// segmentio/kafka-go: admin, every compression, a group that two members share, commits, seek, offsets by time, headers.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

const count = 600

var (
	bootstrap = os.Args[1]
	client    = &kafka.Client{Addr: kafka.TCP(bootstrap), Timeout: 30 * time.Second}
)

func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 150*time.Second)
	defer cancel()
	for _, step := range []func(context.Context){topics, share, seek, remove} {
		step(ctx)
	}
	fmt.Println("done")
}

func topics(ctx context.Context) {
	configs := []kafka.ConfigEntry{{ConfigName: "retention.ms", ConfigValue: "86400000"}}
	wanted := []kafka.TopicConfig{{Topic: "segment", NumPartitions: 2, ReplicationFactor: 1, ConfigEntries: configs}}
	created, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: wanted})
	check(err)
	check(created.Errors["segment"])
	created, err = client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: wanted})
	check(err)
	if !errors.Is(created.Errors["segment"], kafka.TopicAlreadyExists) {
		log.Panicf("created twice: %v", created.Errors)
	}
	more := []kafka.TopicPartitionsConfig{{Name: "segment", Count: 3}}
	grown, err := client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{Topics: more})
	check(err)
	check(grown.Errors["segment"])
	longest := []kafka.IncrementalAlterConfigsRequestConfig{
		{Name: "max.message.bytes", Value: "2000000", ConfigOperation: kafka.ConfigOperationSet},
	}
	resource := kafka.IncrementalAlterConfigsRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: "segment", Configs: longest}
	resources := []kafka.IncrementalAlterConfigsRequestResource{resource}
	altered, err := client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{Resources: resources})
	check(err)
	check(altered.Resources[0].Error)
	described, err := client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{
		{ResourceType: kafka.ResourceTypeTopic, ResourceName: "segment", ConfigNames: []string{"max.message.bytes"}},
	}})
	check(err)
	if described.Resources[0].ConfigEntries[0].ConfigValue != "2000000" {
		log.Panic(described.Resources)
	}
}

func produce(ctx context.Context) {
	codecs := []kafka.Compression{0, kafka.Gzip, kafka.Snappy, kafka.Lz4, kafka.Zstd}
	each := count / len(codecs)
	for place, codec := range codecs {
		writer := &kafka.Writer{
			Addr: kafka.TCP(bootstrap), Topic: "segment", Balancer: &kafka.Hash{}, Compression: codec,
			RequiredAcks: kafka.RequireAll, BatchTimeout: 5 * time.Millisecond,
		}
		messages := []kafka.Message{}
		for n := place * each; n < (place+1)*each; n++ {
			key := []byte(strconv.Itoa(n))
			headers := []kafka.Header{{Key: "n", Value: key}}
			messages = append(messages, kafka.Message{Key: key, Value: []byte("value " + string(key)), Headers: headers})
		}
		check(writer.WriteMessages(ctx, messages...))
		check(writer.Close())
	}
}

// Two members have the partitions between them; what the two commit is everything.
func share(ctx context.Context) {
	lock, seen := sync.Mutex{}, map[string]bool{}
	all, stop := context.WithCancel(ctx)
	ended := sync.WaitGroup{}
	for range 2 {
		reader := kafka.NewReader(kafka.ReaderConfig{
			Brokers: []string{bootstrap}, GroupID: "segment-shared", Topic: "segment", StartOffset: kafka.FirstOffset,
			MaxWait: 200 * time.Millisecond, HeartbeatInterval: 500 * time.Millisecond, JoinGroupBackoff: time.Second,
		})
		ended.Go(func() {
			for {
				message, err := reader.FetchMessage(all)
				if err != nil {
					break
				}
				if string(message.Headers[0].Value) != string(message.Key) {
					log.Panicf("%s has other headers", message.Key)
				}
				check(reader.CommitMessages(ctx, message))
				lock.Lock()
				seen[string(message.Key)] = true
				lock.Unlock()
			}
			check(reader.Close())
		})
	}
	wait := func(holds func() bool) {
		for !holds() {
			check(ctx.Err())
			time.Sleep(100 * time.Millisecond)
		}
	}
	wait(func() bool { return members(ctx) == 2 })
	// Only now: after a rebalance this client may commit an offset that it read before.
	produce(ctx)
	wait(func() bool { lock.Lock(); defer lock.Unlock(); return len(seen) == count })
	stop()
	ended.Wait()
	partitions := map[string][]int{"segment": {0, 1, 2}}
	offsets, err := client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: "segment-shared", Topics: partitions})
	check(err)
	sum := int64(0)
	for _, partition := range offsets.Topics["segment"] {
		// -1 where nothing was written: the writer may not know of the third partition yet.
		sum += max(partition.CommittedOffset, 0)
	}
	if sum != count {
		log.Panicf("offsets of %d records are committed", sum)
	}
}

// How many members have partitions.
func members(ctx context.Context) int {
	described, err := client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{"segment-shared"}})
	check(err)
	owners := 0
	for _, member := range described.Groups[0].Members {
		if len(member.MemberAssignments.Topics) > 0 && len(member.MemberAssignments.Topics[0].Partitions) > 0 {
			owners++
		}
	}
	return owners
}

func seek(ctx context.Context) {
	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{bootstrap}, Topic: "segment", Partition: 1})
	check(reader.SetOffset(5))
	message, err := reader.ReadMessage(ctx)
	check(err)
	if message.Offset != 5 {
		log.Panicf("offset %d instead of 5", message.Offset)
	}
	check(reader.SetOffsetAt(ctx, time.UnixMilli(1)))
	message, err = reader.ReadMessage(ctx)
	check(err)
	if message.Offset != 0 {
		log.Panicf("the first record after 1970 is %d", message.Offset)
	}
	check(reader.Close())
	connection, err := kafka.DialLeader(ctx, "tcp", bootstrap, "segment", 1)
	check(err)
	first, last, err := connection.ReadOffsets()
	check(err)
	if first != 0 || last <= 5 {
		log.Panicf("offsets %d to %d", first, last)
	}
	check(connection.Close())
}

func remove(ctx context.Context) {
	deleted, err := client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{"segment-shared"}})
	check(err)
	check(deleted.Errors["segment-shared"])
	host, port, err := net.SplitHostPort(bootstrap)
	check(err)
	connection, err := kafka.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	check(err)
	check(connection.DeleteTopics("segment"))
	check(connection.Close())
}
