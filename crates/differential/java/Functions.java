import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.streams.KeyValue;

/** The functions of the topologies' operators; src/functions.rs has the same ones. */
final class Functions {
    private static final int LONGEST = 48;

    private Functions() {
    }

    static int hash(final String text) {
        int hash = 7;
        if (text != null) {
            for (final byte at : text.getBytes(StandardCharsets.UTF_8)) {
                hash = hash * 31 + (at & 0xff);
            }
        }
        return hash ^ (hash >>> 15);
    }

    private static int mixed(final String key, final String value, final int modulus) {
        return Integer.remainderUnsigned(hash(key) * 17 + hash(value), modulus);
    }

    static String text(final String value) {
        return value == null ? "-" : value;
    }

    /** Long texts are told by their hash, so that chains of aggregations stay small. */
    static String brief(final String text) {
        return text.length() > LONGEST ? String.format("#%08x", hash(text)) : text;
    }

    static boolean keeps(final int modulus, final int rest, final String key, final String value) {
        return mixed(key, value, modulus) != rest;
    }

    static boolean marked(final String mark, final String value) {
        return value != null && value.startsWith(mark + "|");
    }

    static String value(final String function, final String key, final String value) {
        switch (function) {
            case "mark":
                return value == null ? null : brief(value + "'");
            case "keyed":
                return brief(text(key) + ":" + text(value));
            case "sift":
                return mixed(null, value, 3) == 0 ? null : value;
            case "strip":
                return value.length() == 2 ? null : value.substring(2);
            default:
                throw new IllegalArgumentException(function);
        }
    }

    static String key(final String function, final String key, final String value) {
        switch (function) {
            case "bucket":
                return "g" + mixed(key, value, 3);
            case "same":
                return key;
            case "primed":
                return key == null ? null : key + "'";
            case "holes":
                final int place = mixed(key, value, 4);
                return place == 3 ? null : "k" + place;
            default:
                throw new IllegalArgumentException(function);
        }
    }

    static List<String> values(final int least, final String key, final String value) {
        final List<String> values = new ArrayList<>();
        final int count = least + mixed(key, value, 3);
        for (int place = 0; place < count; place++) {
            values.add(brief(text(value) + "." + place));
        }
        return values;
    }

    static List<KeyValue<String, String>> pairs(final int least, final String key, final String value) {
        final List<KeyValue<String, String>> pairs = new ArrayList<>();
        for (final String made : values(least, key, value)) {
            pairs.add(KeyValue.pair("k" + mixed(key, made, 4), made));
        }
        return pairs;
    }

    static String add(final String value, final String sum) {
        return brief(sum + "," + text(value));
    }

    static String subtract(final String value, final String sum) {
        return brief(sum + "~" + text(value));
    }

    static String reduce(final String sum, final String value) {
        return brief(sum + "+" + value);
    }

    static String join(final String left, final String right) {
        return brief("(" + text(left) + "|" + text(right) + ")");
    }

    static String foreign(final String value) {
        final int place = mixed("f", value, 5);
        return value == null || place == 4 ? null : "k" + place;
    }

    /** By key and value. */
    static String foreignOf(final String key, final String value) {
        final int place = mixed(key, value, 5);
        return value == null || place == 4 ? null : "k" + place;
    }

    /** A time by key and value. */
    static long moment(final String key, final String value) {
        return mixed(key, value, 50);
    }

    /** A record's time by its value: before or after its own, and sometimes none. */
    static long time(final String value, final long at) {
        final int place = mixed("t", value, 9);
        return place == 8 ? -1 : Math.max(0, at + (place - 3) * 4L);
    }
}
