// Sarama: admin, every compression, idempotence, transactions with offsets, a group that two members share, offsets by time.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

const count = 600

var bootstrap = []string{os.Args[1]}

func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}

func config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	return config
}

func main() {
	admin, err := sarama.NewClusterAdmin(bootstrap, config())
	check(err)
	for _, step := range []func(sarama.ClusterAdmin){topics, produce, copyAll, verify, share, remove} {
		step(admin)
	}
	check(admin.Close())
	fmt.Println("done")
}

func topics(admin sarama.ClusterAdmin) {
	retention := "86400000"
	entries := map[string]*string{"retention.ms": &retention}
	wanted := &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1, ConfigEntries: entries}
	check(admin.CreateTopic("sarama-in", wanted, false))
	check(admin.CreateTopic("sarama-out", wanted, false))
	if err := admin.CreateTopic("sarama-in", wanted, false); !errors.Is(err, sarama.ErrTopicAlreadyExists) {
		log.Panicf("created twice: %v", err)
	}
	check(admin.CreatePartitions("sarama-in", 3, nil, false))
	longest := "2000000"
	change := map[string]sarama.IncrementalAlterConfigsEntry{
		"max.message.bytes": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &longest},
	}
	check(admin.IncrementalAlterConfig(sarama.TopicResource, "sarama-in", change, false))
	resource := sarama.ConfigResource{Type: sarama.TopicResource, Name: "sarama-in", ConfigNames: []string{"max.message.bytes"}}
	described, err := admin.DescribeConfig(resource)
	check(err)
	if described[0].Value != longest {
		log.Panic(described)
	}
}

func produce(sarama.ClusterAdmin) {
	codecs := []sarama.CompressionCodec{
		sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD,
	}
	each := count / len(codecs)
	for place, codec := range codecs {
		config := config()
		config.Producer.Compression = codec
		producer, err := sarama.NewSyncProducer(bootstrap, config)
		check(err)
		messages := []*sarama.ProducerMessage{}
		for n := place * each; n < (place+1)*each; n++ {
			key := strconv.Itoa(n)
			headers := []sarama.RecordHeader{{Key: []byte("n"), Value: []byte(key)}}
			value := sarama.StringEncoder("value " + key)
			messages = append(messages, &sarama.ProducerMessage{Topic: "sarama-in", Key: sarama.StringEncoder(key), Value: value, Headers: headers})
		}
		check(producer.SendMessages(messages))
		check(producer.Close())
	}
}

// A member of a group: what it does with a message, and what it is told of its assignment.
type member struct {
	take     func(sarama.ConsumerGroupSession, *sarama.ConsumerMessage)
	assigned func(int)
}

func (m member) Setup(session sarama.ConsumerGroupSession) error {
	m.assigned(len(session.Claims()["sarama-in"]))
	return nil
}

func (m member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		m.take(session, message)
	}
	return nil
}

// Consumes with a group until `done`.
func consume(group, topic string, m member, done <-chan struct{}) {
	consumer, err := sarama.NewConsumerGroup(bootstrap, group, config())
	check(err)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-done; cancel() }()
	for ctx.Err() == nil {
		check(consumer.Consume(ctx, []string{topic}, m))
	}
	check(consumer.Close())
}

// Every third message is first sent in a transaction that is aborted.
func copyAll(admin sarama.ClusterAdmin) {
	config := config()
	config.Producer.Transaction.ID = "sarama-copier"
	producer, err := sarama.NewSyncProducer(bootstrap, config)
	check(err)
	done, copied, lock := make(chan struct{}), 0, sync.Mutex{}
	take := func(session sarama.ConsumerGroupSession, message *sarama.ConsumerMessage) {
		lock.Lock()
		defer lock.Unlock()
		for _, whole := range []bool{copied%3 != 0, true} {
			check(producer.BeginTxn())
			value := sarama.ByteEncoder(message.Value)
			_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: "sarama-out", Key: sarama.ByteEncoder(message.Key), Value: value})
			check(err)
			check(producer.AddMessageToTxn(message, "sarama-copier", nil))
			if whole {
				check(producer.CommitTxn())
				break
			}
			check(producer.AbortTxn())
		}
		if copied++; copied == count {
			close(done)
		}
	}
	consume("sarama-copier", "sarama-in", member{take, func(int) {}}, done)
	check(producer.Close())
	offsets, err := admin.ListConsumerGroupOffsets("sarama-copier", map[string][]int32{"sarama-in": {0, 1, 2}})
	check(err)
	sum := int64(0)
	for _, block := range offsets.Blocks["sarama-in"] {
		sum += block.Offset
	}
	if sum != count {
		log.Panicf("offsets of %d records are committed", sum)
	}
}

func verify(sarama.ClusterAdmin) {
	client, err := sarama.NewClient(bootstrap, config())
	check(err)
	consumer, err := sarama.NewConsumerFromClient(client)
	check(err)
	seen := map[string]bool{}
	for partition := range int32(2) {
		end, err := client.GetOffset("sarama-out", partition, sarama.OffsetNewest)
		check(err)
		one, err := consumer.ConsumePartition("sarama-out", partition, sarama.OffsetOldest)
		check(err)
		for quiet := false; !quiet; {
			select {
			case message := <-one.Messages():
				if key := string(message.Key); seen[key] || message.Offset >= end {
					log.Panicf("%s comes twice, or after the end", key)
				}
				seen[string(message.Key)] = true
			case <-time.After(3 * time.Second):
				quiet = true
			}
		}
		check(one.Close())
	}
	if len(seen) != count {
		log.Panicf("%d copies", len(seen))
	}
	first, err := client.GetOffset("sarama-in", 0, 1)
	check(err)
	if first != 0 {
		log.Panicf("the first record after 1970 is %d", first)
	}
	check(consumer.Close())
	check(client.Close())
}

// A second member takes partitions over, and what is committed is not read again.
func share(sarama.ClusterAdmin) {
	lock, seen, assigned := sync.Mutex{}, map[string]bool{}, [2]int{}
	take := func(session sarama.ConsumerGroupSession, message *sarama.ConsumerMessage) {
		lock.Lock()
		defer lock.Unlock()
		seen[fmt.Sprint(message.Partition, message.Offset)] = true
		session.MarkMessage(message, "")
	}
	done, ended := make(chan struct{}), sync.WaitGroup{}
	for place := range 2 {
		told := func(partitions int) {
			lock.Lock()
			defer lock.Unlock()
			assigned[place] = partitions
		}
		ended.Go(func() { consume("sarama-shared", "sarama-in", member{take, told}, done) })
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		lock.Lock()
		shared := assigned[0] > 0 && assigned[1] > 0 && assigned[0]+assigned[1] == 3 && len(seen) == count
		lock.Unlock()
		if shared {
			break
		}
		if time.Now().After(deadline) {
			log.Panicf("%v, %d records", assigned, len(seen))
		}
	}
	close(done)
	ended.Wait()
}

func remove(admin sarama.ClusterAdmin) {
	check(admin.DeleteRecords("sarama-in", map[int32]int64{0: 1}))
	check(admin.DeleteConsumerGroup("sarama-copier"))
	check(admin.DeleteConsumerGroup("sarama-shared"))
	check(admin.DeleteTopic("sarama-in"))
	check(admin.DeleteTopic("sarama-out"))
}
