import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.util.Map;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.FixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorSupplier;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.VersionedKeyValueStore;
import org.apache.kafka.streams.state.VersionedRecord;

/** Operators written by hand. */
final class Processors {
    private Processors() {
    }

    static void register(final Map<String, Build.Operator> operators) {
        operators.put("process", (build, step) -> {
            final String own = build.name("s");
            final String store = step.get("shares").isNull() ? own : "s" + step.get("shares").asInt();
            if (store.equals(own)) {
                build.builder.addStateStore(Stores.keyValueStoreBuilder(
                    Stores.inMemoryKeyValueStore(store), Serdes.String(), Serdes.String()));
            }
            build.made(build.stream(step, "of").process(() -> new Chronicle(step, store), store));
        });
        operators.put("timestamp", (build, step) -> {
            final FixedKeyProcessorSupplier<String, String, String> moments = Moments::new;
            build.made(build.stream(step, "of").processValues(moments));
        });
        operators.put("process_versions", (build, step) -> {
            final String store = build.name("s");
            build.builder.addStateStore(Stores.versionedKeyValueStoreBuilder(
                Stores.persistentVersionedKeyValueStore(store, Duration.ofMillis(step.get("history").asLong())),
                Serdes.String(), Serdes.String()));
            build.made(build.stream(step, "of").process(() -> new Annals(step.get("back").asLong(), store), store));
        });
    }

    /** Appends each value to what its key had, forgets the key at a null, and tells all it knows when it is punctuated. */
    private static final class Chronicle implements Processor<String, String, String, String> {
        private final JsonNode step;
        private final String name;
        private KeyValueStore<String, String> store;
        private ProcessorContext<String, String> context;

        Chronicle(final JsonNode step, final String name) {
            this.step = step;
            this.name = name;
        }

        @Override
        public void init(final ProcessorContext<String, String> given) {
            context = given;
            store = given.getStateStore(name);
            schedule("stream_time", PunctuationType.STREAM_TIME);
            schedule("wall_clock", PunctuationType.WALL_CLOCK_TIME);
        }

        private void schedule(final String field, final PunctuationType type) {
            if (!step.get(field).isNull()) {
                context.schedule(Duration.ofMillis(step.get(field).asLong()), type, at -> tell(field, at));
            }
        }

        private void tell(final String clock, final long at) {
            try (KeyValueIterator<String, String> all = store.all()) {
                while (all.hasNext()) {
                    final KeyValue<String, String> entry = all.next();
                    context.forward(new Record<>(entry.key, clock + ":" + entry.value, at));
                }
            }
        }

        @Override
        public void process(final Record<String, String> record) {
            if (record.key() == null) {
                context.forward(record.withTimestamp(record.timestamp() + 1));
                return;
            }
            if (record.value() == null) {
                store.delete(record.key());
                context.forward(record);
                return;
            }
            final String before = store.get(record.key());
            final String after = before == null ? record.value() : Functions.reduce(before, record.value());
            store.put(record.key(), after);
            context.forward(record.withValue(after));
        }
    }

    /** Gives records other times, and leaves their keys alone. */
    private static final class Moments implements FixedKeyProcessor<String, String, String> {
        private FixedKeyProcessorContext<String, String> context;

        @Override
        public void init(final FixedKeyProcessorContext<String, String> given) {
            context = given;
        }

        @Override
        public void process(final FixedKeyRecord<String, String> record) {
            context.forward(record.withTimestamp(Functions.moment(record.key(), record.value())));
        }
    }

    /** Writes each value at its time, and tells what there was some time before and what is the latest. */
    private static final class Annals implements Processor<String, String, String, String> {
        private final long back;
        private final String name;
        private VersionedKeyValueStore<String, String> store;
        private ProcessorContext<String, String> context;

        Annals(final long back, final String name) {
            this.back = back;
            this.name = name;
        }

        @Override
        public void init(final ProcessorContext<String, String> given) {
            context = given;
            store = given.getStateStore(name);
        }

        private static String told(final VersionedRecord<String> version) {
            return version == null ? "-" : version.value() + "@" + version.timestamp();
        }

        @Override
        public void process(final Record<String, String> record) {
            if (record.key() == null) {
                context.forward(record);
                return;
            }
            final boolean written = store.put(record.key(), record.value(), record.timestamp())
                != VersionedKeyValueStore.PUT_RETURN_CODE_NOT_PUT;
            final String before = told(store.get(record.key(), Math.max(0L, record.timestamp() - back)));
            final String latest = told(store.get(record.key()));
            context.forward(record.withValue(Functions.brief(written + " " + before + " " + latest)));
        }
    }
}
