import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamSink;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;

/**
 * A small streaming job that makes real connections and carries their truth in its data.
 *
 * <p>Only Flink's own connectors open connections: {@code socketTextStream} for the source and {@code writeToSocket}
 * for the sink. The job adds its name to each line, so that the servers can tell which job used which connection:
 *
 * <pre>  source server sends   src=IP:PORT|seq|padding      (IP:PORT is the peer it sees)
 *   job forwards          job=NAME|src=IP:PORT|seq|padding
 *   sink server sees      that line, and its own peer's IP:PORT</pre>
 *
 * <p>Arguments: --name N --source HOST:PORT[,…] --sink HOST:PORT [--split true] [--parallelism N] [--leak HOST:PORT].
 * With --split the sink gets its own slot sharing group, so that source and sink can run on two TaskManagers. With
 * --leak a thread opens one more connection, which outlives the job: a defect that real jobs have.
 */
public final class FlowJob {
    private FlowJob() {}

    /** Puts the job's name in front of a line. */
    public static final class Tag implements MapFunction<String, String> {
        private static final long serialVersionUID = 1L;
        private final String prefix;
        private final String leak;
        private transient boolean leaked;

        public Tag(String name, String leak) {
            this.prefix = "job=" + name + "|";
            this.leak = leak;
        }

        @Override
        public String map(String line) {
            if (leak != null && !leaked) {
                leaked = true;
                Thread thread = new Thread(() -> keepOpen(leak, prefix), "leaked");
                thread.setDaemon(true);
                thread.start();
            }
            return prefix + line;
        }
    }

    /** Ends the line, since the sink writes exactly what it is given. */
    public static final class EndLine implements MapFunction<String, String> {
        private static final long serialVersionUID = 1L;

        @Override
        public String map(String line) {
            return line + "\n";
        }
    }

    public static void main(String[] args) throws Exception {
        Map<String, String> p = new HashMap<>();
        for (int i = 0; i + 1 < args.length; i += 2) {
            p.put(args[i].replaceFirst("^--", ""), args[i + 1]);
        }
        String name = p.get("name");
        String sink = p.get("sink");
        boolean split = Boolean.parseBoolean(p.get("split"));

        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        env.setParallelism(Integer.parseInt(p.getOrDefault("parallelism", "1")));
        env.getConfig().setGlobalJobParameters(Configuration.fromMap(p));

        DataStream<String> in = null;
        for (String s : p.get("source").split(",")) {
            DataStream<String> one = env.socketTextStream(host(s), port(s), "\n", -1).name("read " + name);
            in = in == null ? one : in.union(one);
        }
        // rebalance() is a real network edge between two vertices of the job graph.
        var tagged = in.map(new Tag(name, p.get("leak"))).name("tag").rebalance();
        var lines = tagged.map(new EndLine()).name("format");
        if (split) {
            lines = lines.slotSharingGroup("out");
        }
        DataStreamSink<String> out = lines.writeToSocket(host(sink), port(sink), new SimpleStringSchema());
        out.name("write " + name);
        if (split) {
            out.slotSharingGroup("out");
        }
        env.execute(name);
    }

    private static void keepOpen(String where, String prefix) {
        try (Socket socket = new Socket(host(where), port(where))) {
            for (int n = 0; ; n++) {
                String line = prefix + "src=leaked|" + n + "|\n";
                socket.getOutputStream().write(line.getBytes(StandardCharsets.UTF_8));
                Thread.sleep(100);
            }
        } catch (Exception e) {
            // The server is gone.
        }
    }

    private static String host(String hostPort) {
        return hostPort.substring(0, hostPort.lastIndexOf(':'));
    }

    private static int port(String hostPort) {
        return Integer.parseInt(hostPort.substring(hostPort.lastIndexOf(':') + 1));
    }
}
