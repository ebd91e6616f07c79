import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;

import org.apache.kafka.common.*;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaEntity;

/**
 * An answer as one line of text that two brokers can be compared by: everything a client can ask of it, in the order of
 * names, without what differs from run to run.
 */
final class Show {
    /** What is another number or name in each run: only whether it is there counts. */
    static final Set<String> VARYING = Set.of("lastTimestamp", "issueTimestamp", "expiryTimestamp", "maxTimestamp", "producerId",
        "transactionStartTimeMs", "coordinatorEpoch", "lastFetchTimestamp", "lastCaughtUpTimestamp", "logEndOffset",
        "highWatermark", "totalBytes", "usableBytes", "size", "leaderEpoch", "clientId", "consumerId", "memberId", "host", "port",
        "processId", "clientHost", "hmac", "tokenId", "clusterId", "leaderId",
        "topologyEpoch", "userEndpoint", "groupEpoch", "targetAssignmentEpoch", "memberEpoch", "assignmentEpoch",
        "currentTransactionStartOffset");
    /** Kafka's own words for what other accessors say, and what leads back to where one came from. */
    static final Set<String> SKIPPED = Set.of("hashCode", "toString", "getClass", "notify", "notifyAll", "wait", "clone", "isEmpty",
        "hmacAsBase64String", "directoryId", "replicaDirectoryId", "voterId", "nodes", "endpoints", "rack", "clientTags", "finalizedFeaturesEpoch");

    private Show() {}

    static String value(Object value) {
        return value("", value);
    }

    private static String value(String name, Object value) {
        if (value == null) return "null";
        if (value instanceof KafkaFuture<?> future) return future(name, future);
        if (value instanceof Throwable failure) return failure(failure);
        if (value instanceof Optional<?> optional) return optional.map(it -> value(name, it)).orElse("none");
        if (value instanceof OptionalInt number) return number.isPresent() ? value(name, number.getAsInt()) : "none";
        if (value instanceof OptionalLong number) return number.isPresent() ? value(name, number.getAsLong()) : "none";
        if (VARYING.contains(name)) return varying(value);
        if (value instanceof Uuid id) return id.equals(Uuid.ZERO_UUID) ? "no-id" : "id";
        if (value instanceof Map<?, ?> map) return map(name, map);
        if (value instanceof Collection<?> items) return items(name, items.stream());
        if (value instanceof byte[] bytes) return bytes.length + " bytes";
        if (value instanceof Node node) return "node-" + node.id();
        if (value instanceof TopicPartition || value instanceof ConfigResource || value instanceof AclBinding
            || value instanceof AclBindingFilter || value instanceof ClientQuotaEntity || value instanceof Enum<?>
            || !value.getClass().getName().startsWith("org.apache.kafka")) {
            return value.toString().replace('\n', ' ').replace('\t', ' ');
        }
        return accessors(value);
    }

    private static String varying(Object value) {
        if (value instanceof Number number) return number.longValue() > 0 ? "some" : number.toString();
        if (value instanceof byte[] bytes) return bytes.length > 0 ? "some" : "empty";
        return value.toString().isEmpty() ? "empty" : "some";
    }

    private static String future(String name, KafkaFuture<?> future) {
        try {
            return value(name, future.get(30, TimeUnit.SECONDS));
        } catch (ExecutionException failed) {
            return failure(failed.getCause());
        } catch (Exception failed) {
            return failure(failed);
        }
    }

    static String failure(Throwable failure) {
        return "!" + failure.getClass().getSimpleName();
    }

    private static String map(String name, Map<?, ?> map) {
        Stream<String> lines = map.entrySet().stream()
            .map(entry -> value(entry.getKey()) + "=" + value(name, entry.getValue()));
        return lines.sorted().collect(Collectors.joining(", ", "{", "}"));
    }

    private static String items(String name, Stream<?> items) {
        return items.map(item -> value(name, item)).sorted().collect(Collectors.joining(", ", "[", "]"));
    }

    private static String accessors(Object value) {
        TreeMap<String, String> shown = new TreeMap<>();
        for (Method method : value.getClass().getMethods()) {
            String name = method.getName();
            if (method.getParameterCount() > 0 || method.getReturnType() == void.class || SKIPPED.contains(name)
                || Modifier.isStatic(method.getModifiers()) || method.isAnnotationPresent(Deprecated.class)
                || !method.getDeclaringClass().getName().startsWith("org.apache.kafka")) {
                continue;
            }
            try {
                method.setAccessible(true);
                shown.put(name, value(name, method.invoke(value)));
            } catch (InvocationTargetException failed) {
                shown.put(name, failure(failed.getCause()));
            } catch (ReflectiveOperationException | RuntimeException failed) {
                shown.put(name, failure(failed));
            }
        }
        return shown.entrySet().stream().map(entry -> entry.getKey() + ": " + entry.getValue())
            .collect(Collectors.joining(", ", "(", ")"));
    }
}
