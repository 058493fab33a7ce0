package nutshell;

import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.ConcurrentLinkedDeque;

/** Asks the session store of this instance, in the words of Redis. */
final class Store {
    private static final long PATIENCE = 2000; // ms
    private static final int MOST = 4 << 20;

    private final UnixDomainSocketAddress address;
    private final ConcurrentLinkedDeque<Line> idle = new ConcurrentLinkedDeque<>();

    Store(String path) {
        address = UnixDomainSocketAddress.of(path);
    }

    byte[] get(String id) throws IOException {
        return ask("GET".getBytes(StandardCharsets.US_ASCII), key(id));
    }

    void set(String id, int seconds, byte[] value) throws IOException {
        ask("SETEX".getBytes(StandardCharsets.US_ASCII), key(id), Integer.toString(seconds).getBytes(StandardCharsets.US_ASCII), value);
    }

    /** The route at the end of an id says where it was made, not which session it is. */
    private static byte[] key(String id) {
        return ("JSESSIONID:" + id).getBytes(StandardCharsets.UTF_8);
    }

    private byte[] ask(byte[]... words) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.write(("*" + words.length + "\r\n").getBytes(StandardCharsets.US_ASCII));
        for (byte[] w : words) {
            out.write(("$" + w.length + "\r\n").getBytes(StandardCharsets.US_ASCII));
            out.write(w);
            out.write('\r');
            out.write('\n');
        }
        byte[] question = out.toByteArray();
        Line line = idle.pollFirst();
        if (line != null) {
            try {
                return finish(line, question);
            } catch (EOFException e) {
                // the store was started anew: all these words may be said twice
                for (Line old = idle.pollFirst(); old != null; old = idle.pollFirst()) {
                    old.close();
                }
            }
        }
        return finish(new Line(address), question);
    }

    private byte[] finish(Line line, byte[] question) throws IOException {
        boolean whole = false;
        try {
            byte[] answer = line.ask(question);
            whole = true;
            return answer;
        } finally {
            if (whole) {
                idle.addFirst(line);
            } else {
                line.close();
            }
        }
    }

    /** One connection. */
    private static final class Line {
        private final SocketChannel channel;
        private final Selector selector;
        private final ByteBuffer in = ByteBuffer.allocate(8192).flip();
        private long end;

        Line(UnixDomainSocketAddress address) throws IOException {
            channel = SocketChannel.open(address);
            try {
                selector = Selector.open();
                channel.configureBlocking(false);
                channel.register(selector, 0);
            } catch (IOException e) {
                channel.close();
                throw e;
            }
        }

        void close() {
            try {
                selector.close();
                channel.close();
            } catch (IOException e) {
                // nothing is lost with it
            }
        }

        byte[] ask(byte[] question) throws IOException {
            end = System.currentTimeMillis() + PATIENCE;
            for (ByteBuffer out = ByteBuffer.wrap(question); out.hasRemaining();) {
                try {
                    if (channel.write(out) == 0) {
                        await(SelectionKey.OP_WRITE);
                    }
                } catch (IOException e) {
                    throw new EOFException(e.toString());
                }
            }
            String head = line();
            switch (head.charAt(0)) {
                case '$':
                    int n = Integer.parseInt(head.substring(1));
                    if (n < 0) {
                        return null;
                    }
                    if (n > MOST) {
                        throw new IOException("an answer of " + n + " bytes");
                    }
                    byte[] value = new byte[n];
                    for (int i = 0; i < n; i++) {
                        value[i] = next();
                    }
                    next();
                    next();
                    return value;
                case '_':
                    return null;
                case '-':
                    throw new IOException(head.substring(1));
                default:
                    return head.getBytes(StandardCharsets.UTF_8);
            }
        }

        private String line() throws IOException {
            StringBuilder b = new StringBuilder();
            for (byte c = next(); c != '\r'; c = next()) {
                b.append((char) c);
                if (b.length() > 1000) {
                    throw new IOException("not an answer of a store");
                }
            }
            next();
            if (b.length() == 0) {
                throw new IOException("an empty answer");
            }
            return b.toString();
        }

        private byte next() throws IOException {
            while (!in.hasRemaining()) {
                in.clear();
                int n;
                try {
                    n = channel.read(in);
                } catch (IOException e) {
                    in.limit(0);
                    throw new EOFException(e.toString());
                }
                in.flip();
                if (n < 0) {
                    in.limit(0);
                    throw new EOFException("the store has closed the connection");
                }
                if (n == 0) {
                    await(SelectionKey.OP_READ);
                }
            }
            return in.get();
        }

        private void await(int what) throws IOException {
            long left = end - System.currentTimeMillis();
            if (left <= 0) {
                throw new IOException("no answer within " + PATIENCE + " ms");
            }
            channel.keyFor(selector).interestOps(what);
            selector.select(left);
            selector.selectedKeys().clear();
        }
    }
}
