import java.util.*;

import org.apache.kafka.clients.admin.*;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;

/** Where records are, and which are deleted. */
final class Offsets implements AdminMethods.Part {
    @Override
    public void tell(Book book) throws Exception {
        Admin admin = book.admin;
        admin.createTopics(List.of(new NewTopic("records", 2, (short) 1),
            new NewTopic("compacted", 1, (short) 1).configs(Map.of("cleanup.policy", "compact")))).all().get();
        book.write("records", 0, 10);
        TopicPartition full = Book.at("records", 0), empty = Book.at("records", 1), none = Book.at("records", 7);
        Map<String, OffsetSpec> specs = new LinkedHashMap<>();
        specs.put("earliest", OffsetSpec.earliest());
        specs.put("latest", OffsetSpec.latest());
        specs.put("greatest time", OffsetSpec.maxTimestamp());
        specs.put("a time", OffsetSpec.forTimestamp(4500));
        specs.put("the first time", OffsetSpec.forTimestamp(0));
        specs.put("a time to come", OffsetSpec.forTimestamp(Long.MAX_VALUE));
        specs.put("earliest local", OffsetSpec.earliestLocal());
        specs.put("latest tiered", OffsetSpec.latestTiered());
        specs.put("earliest pending", OffsetSpec.earliestPendingUpload());
        specs.forEach((name, spec) -> {
            book.tell("listOffsets", name, () -> admin.listOffsets(Map.of(full, spec)).partitionResult(full));
            book.tell("listOffsets", name + " of nothing", () -> admin.listOffsets(Map.of(empty, spec)).partitionResult(empty));
        });
        book.tell("listOffsets", "committed", () -> admin.listOffsets(Map.of(full, OffsetSpec.latest()),
            new ListOffsetsOptions(IsolationLevel.READ_COMMITTED)).partitionResult(full));
        book.tell("listOffsets", "unknown partition", () -> admin.listOffsets(Map.of(none, OffsetSpec.latest())).partitionResult(none));
        book.tell("deleteRecords", "before 4", () -> admin.deleteRecords(
            Map.of(full, RecordsToDelete.beforeOffset(4))).lowWatermarks());
        book.tell("deleteRecords", "before 2", () -> admin.deleteRecords(
            Map.of(full, RecordsToDelete.beforeOffset(2))).lowWatermarks());
        book.tell("deleteRecords", "beyond the end", () -> admin.deleteRecords(
            Map.of(full, RecordsToDelete.beforeOffset(99))).lowWatermarks());
        book.tell("deleteRecords", "a negative offset", () -> admin.deleteRecords(
            Map.of(full, RecordsToDelete.beforeOffset(-7))).lowWatermarks());
        book.tell("deleteRecords", "of what is compacted", () -> admin.deleteRecords(
            Map.of(Book.at("compacted", 0), RecordsToDelete.beforeOffset(0))).lowWatermarks());
        book.tell("deleteRecords", "unknown partition", () -> admin.deleteRecords(
            Map.of(none, RecordsToDelete.beforeOffset(0))).lowWatermarks());
        book.tell("deleteRecords", "all", () -> admin.deleteRecords(
            Map.of(full, RecordsToDelete.beforeOffset(-1))).lowWatermarks());
        book.tell("deleteRecords", "where it begins then", () -> admin.listOffsets(
            Map.of(full, OffsetSpec.earliest())).partitionResult(full));
    }
}
