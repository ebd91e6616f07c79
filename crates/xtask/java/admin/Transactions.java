import java.util.*;

import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringSerializer;

/** Producers and their transactions: one open, one committed, one that is ended from outside. */
final class Transactions implements AdminMethods.Part {
    private static final TopicPartition AT = new TopicPartition("transacted", 0);

    @Override
    public void tell(Book book) throws Exception {
        book.admin.createTopics(List.of(new NewTopic(AT.topic(), 1, (short) 1))).all().get();
        try (var committed = producer(book, "committed"); var open = producer(book, "open")) {
            committed.beginTransaction();
            committed.send(new ProducerRecord<>(AT.topic(), 0, 1L, "k", "v")).get();
            committed.commitTransaction();
            open.beginTransaction();
            open.send(new ProducerRecord<>(AT.topic(), 0, 1L, "k", "v")).get();
            // The markers of the first are on their way.
            Thread.sleep(2000);
            look(book);
            end(book);
            book.tell("fenceProducers", "what a fenced producer is told", () -> {
                try {
                    open.commitTransaction();
                    return "committed";
                } catch (RuntimeException failure) {
                    return Show.failure(failure);
                }
            });
        }
    }

    private static KafkaProducer<String, String> producer(Book book, String id) {
        var producer = new KafkaProducer<>(book.settings("transactional.id", id, "transaction.timeout.ms", "60000"),
            new StringSerializer(), new StringSerializer());
        producer.initTransactions();
        return producer;
    }

    private static void look(Book book) {
        Admin admin = book.admin;
        TopicPartition none = new TopicPartition(AT.topic(), 5);
        book.tell("listTransactions", "all", () -> admin.listTransactions().all());
        book.tell("listTransactions", "open", () -> admin.listTransactions(
            new ListTransactionsOptions().filterStates(List.of(TransactionState.ONGOING))).all());
        book.tell("listTransactions", "of an unknown state", () -> admin.listTransactions(
            new ListTransactionsOptions().filterStates(List.of(TransactionState.UNKNOWN))).all());
        book.tell("listTransactions", "of no producer", () -> admin.listTransactions(
            new ListTransactionsOptions().filterProducerIds(List.of(987654L))).all());
        book.tell("listTransactions", "for an hour", () -> admin.listTransactions(
            new ListTransactionsOptions().filterOnDuration(3_600_000)).all());
        book.tell("listTransactions", "by pattern", () -> admin.listTransactions(
            new ListTransactionsOptions().filterOnTransactionalIdPattern("op.*")).all());
        book.tell("listTransactions", "by a bad pattern", () -> admin.listTransactions(
            new ListTransactionsOptions().filterOnTransactionalIdPattern("(")).all());
        for (String id : List.of("committed", "open", "nobody")) {
            book.tell("describeTransactions", id, () -> admin.describeTransactions(List.of(id)).description(id));
        }
        book.tell("describeProducers", "of a partition", () -> admin.describeProducers(List.of(AT)).partitionResult(AT));
        book.tell("describeProducers", "at the broker", () -> admin.describeProducers(List.of(AT),
            new DescribeProducersOptions().brokerId(1)).partitionResult(AT));
        book.tell("describeProducers", "of no partition", () -> admin.describeProducers(List.of(none)).partitionResult(none));
    }

    private static void end(Book book) {
        Admin admin = book.admin;
        book.tell("abortTransaction", "of nobody", () -> admin.abortTransaction(
            new AbortTransactionSpec(AT, 987654, (short) 0, 0)).all());
        book.tell("abortTransaction", "of no partition", () -> admin.abortTransaction(
            new AbortTransactionSpec(new TopicPartition(AT.topic(), 5), 987654, (short) 0, 0)).all());
        book.tell("abortTransaction", "the open one", () -> {
            var open = admin.describeProducers(List.of(AT)).partitionResult(AT).get().activeProducers().stream()
                .filter(state -> state.currentTransactionStartOffset().isPresent()).findFirst().orElseThrow();
            return admin.abortTransaction(new AbortTransactionSpec(AT, open.producerId(),
                (short) open.producerEpoch(), open.coordinatorEpoch().orElse(0))).all();
        });
        book.tell("describeProducers", "after it was aborted", () -> admin.describeProducers(List.of(AT)).partitionResult(AT)
            .thenApply(state -> state.activeProducers().stream().filter(one -> one.currentTransactionStartOffset().isPresent()).count()));
        book.tell("forceTerminateTransaction", "the open one", () -> admin.forceTerminateTransaction("open").result());
        book.tell("forceTerminateTransaction", "what is left of it", () -> admin.describeTransactions(List.of("open")).description("open")
            .thenApply(TransactionDescription::state));
        book.tell("forceTerminateTransaction", "of nobody", () -> admin.forceTerminateTransaction("nobody-ever").result());
        book.tell("fenceProducers", "each", () -> admin.fenceProducers(List.of("open", "unheard-of")).fencedProducers());
    }
}
