import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;

/**
 * A sample job of {@code flowmap demo --flink}: each link is an operator that holds a connection and counts its bytes.
 *
 * <p>Arguments: the name of the job, then for each link NUMBER HOST PORT UPLOAD DOWNLOAD PAUSE_MS. An exchange is that of
 * {@code flowmap.sandbox.demo.jobs}. When a link closes it prints {@code FLOWMAP-TRUTH NUMBER SENT RECEIVED}.
 *
 * <p>On loopback the kernel would give every connection the address 127.0.0.1. So the connections are bound to the
 * address of their TaskManager, as a pod's are by nature.
 */
public final class FlinkDemoJob {
    private FlinkDemoJob() {}

    /** One connection to a service. */
    public static final class Link extends RichMapFunction<Long, Long> {
        private static final long serialVersionUID = 1L;
        private final String number;
        private final String host;
        private final int port;
        private final int upload;
        private final int download;
        private final long pause;
        private transient Socket socket;
        private transient long sent;
        private transient long received;

        Link(String[] words, int at) {
            number = words[at];
            host = words[at + 1];
            port = Integer.parseInt(words[at + 2]);
            upload = Integer.parseInt(words[at + 3]);
            download = Integer.parseInt(words[at + 4]);
            pause = Long.parseLong(words[at + 5]);
        }

        @Override
        public Long map(Long value) throws Exception {
            if (socket == null) {
                socket = new Socket();
                socket.setTcpNoDelay(true);
                socket.bind(new InetSocketAddress(InetAddress.getByName(System.getenv("FLOWMAP_DEMO_ADDRESS")), 0));
                socket.connect(new InetSocketAddress(host, port));
            }
            Thread.sleep(pause); // where the cancellation of the job interrupts, between two exchanges
            DataOutputStream out = new DataOutputStream(socket.getOutputStream());
            byte[] request = new byte[8 + upload];
            java.nio.ByteBuffer.wrap(request).putInt(upload).putInt(download);
            out.write(request);
            sent += request.length;
            new DataInputStream(socket.getInputStream()).readFully(new byte[download]);
            received += download;
            return value;
        }

        @Override
        public void close() throws IOException {
            if (socket != null) {
                socket.close();
                System.out.println("FLOWMAP-TRUTH " + number + " " + sent + " " + received);
                socket = null;
            }
        }
    }

    public static void main(String[] words) throws Exception {
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        env.setParallelism(1);
        for (int at = 1; at + 5 < words.length; at += 6) {
            env.fromSequence(0, Long.MAX_VALUE - 1).map(new Link(words, at)).sinkTo(new DiscardingSink<>());
        }
        env.execute(words[0]);
    }
}
