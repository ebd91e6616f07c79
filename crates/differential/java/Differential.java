import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Semaphore;

/** Reads a case a line, runs it on Kafka Streams' TopologyTestDriver and answers with a line: what it wrote. */
public final class Differential {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int IN_FLIGHT = 64;

    private Differential() {
    }

    public static void main(final String[] arguments) throws Exception {
        final int workers = Integer.parseInt(arguments[0]);
        final PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        final ExecutorService pool = Executors.newFixedThreadPool(workers);
        final Semaphore places = new Semaphore(IN_FLIGHT);
        final BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            final String asked = line;
            places.acquire();
            pool.submit(() -> {
                final String answer = answer(asked);
                synchronized (out) {
                    out.println(answer);
                    out.flush();
                }
                places.release();
            });
        }
        pool.shutdown();
    }

    private static String answer(final String line) {
        try {
            final JsonNode asked = JSON.readTree(line);
            try {
                return JSON.writeValueAsString(Run.run(JSON, asked));
            } catch (final Throwable problem) {
                return JSON.writeValueAsString(
                    JSON.createObjectNode().put("id", asked.get("id").asLong()).put("error", told(problem)));
            }
        } catch (final Exception problem) {
            throw new IllegalStateException(line, problem);
        }
    }

    /** The cause behind all causes. */
    private static String told(final Throwable problem) {
        Throwable cause = problem;
        while (cause.getCause() != null) {
            cause = cause.getCause();
        }
        final StringBuilder text = new StringBuilder(cause.toString());
        for (int frame = 0; frame < Math.min(4, cause.getStackTrace().length); frame++) {
            text.append(" at ").append(cause.getStackTrace()[frame]);
        }
        return text.toString();
    }
}
