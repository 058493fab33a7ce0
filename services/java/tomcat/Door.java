package nutshell;

import jakarta.servlet.ServletException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.catalina.Container;
import org.apache.catalina.Context;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.connector.Request;
import org.apache.catalina.connector.Response;
import org.apache.catalina.valves.ValveBase;

/**
 * The first valve of the engine. It counts requests, tells the agent how
 * Tomcat is over a connector that nobody else can reach, and has sessions
 * fetched before and kept after each request.
 */
public final class Door extends ValveBase {
    private final AtomicInteger busy = new AtomicInteger();
    private final AtomicLong requests = new AtomicLong();
    private String status = "";

    public Door() {
        super(true);
    }

    /** The socket over which the agent asks. */
    public void setStatus(String path) {
        status = path;
    }

    @Override
    public void invoke(Request request, Response response) throws IOException, ServletException {
        boolean agent = status.equals(request.getConnector().getProperty("unixDomainSocketPath"));
        if (agent) {
            request.setAttribute("nutshell.agent", Boolean.TRUE); // the access log is about visitors
        }
        if (agent && "/nutshell-status".equals(request.getRequestURI())) {
            report(request, response);
            return;
        }
        if (agent && "/nutshell-alive".equals(request.getRequestURI())) {
            response.setStatus(available() ? 204 : 503);
            return;
        }
        visitor(request);
        if (!agent) {
            busy.incrementAndGet();
            requests.incrementAndGet();
        }
        try {
            Context context = request.getContext();
            if (context == null || !(context.getManager() instanceof Sessions)) {
                getNext().invoke(request, response);
                return;
            }
            Sessions sessions = (Sessions) context.getManager();
            sessions.enter(request.getRequestedSessionId());
            try {
                getNext().invoke(request, response);
            } finally {
                sessions.leave(request);
            }
        } finally {
            if (!agent) {
                busy.decrementAndGet();
            }
        }
    }

    /** Only our own nginx connects, and says whose request it is. */
    private static void visitor(Request request) {
        String address = request.getHeader("X-Real-IP");
        if (address != null) {
            request.setRemoteAddr(address);
            request.setRemoteHost(address);
        }
        if ("https".equals(request.getHeader("X-Forwarded-Proto"))) {
            request.setSecure(true);
            request.getCoyoteRequest().scheme().setString("https");
        }
        String port = request.getHeader("X-Forwarded-Port");
        if (port != null) {
            try {
                request.setServerPort(Integer.parseInt(port));
            } catch (NumberFormatException e) {
                // the port of the Host header will do
            }
        }
    }

    /** Whether the application has started. */
    private boolean available() {
        for (Container host : getContainer().findChildren()) {
            for (Container context : host.findChildren()) {
                return context.getState().isAvailable();
            }
        }
        return false;
    }

    private void report(Request request, Response response) throws IOException {
        long kept = 0;
        for (Container host : getContainer().findChildren()) {
            for (Container c : host.findChildren()) {
                Context context = (Context) c;
                if (context.getManager() != null) {
                    kept += context.getManager().getActiveSessions();
                }
            }
        }
        int working = 0;
        int threads = 0;
        for (Connector c : request.getConnector().getService().findConnectors()) {
            if (!status.equals(c.getProperty("unixDomainSocketPath")) && c.getProtocolHandler().getExecutor() instanceof ThreadPoolExecutor) {
                ThreadPoolExecutor e = (ThreadPoolExecutor) c.getProtocolHandler().getExecutor();
                working += e.getActiveCount();
                threads += e.getMaximumPoolSize();
            }
        }
        Runtime r = Runtime.getRuntime();
        String text = "{\"available\":" + available() + ",\"busy\":" + busy.get() + ",\"requests\":" + requests.get() + ",\"sessions\":" + kept
                + ",\"working\":" + working + ",\"threads\":" + threads + ",\"heap\":" + (r.totalMemory() - r.freeMemory()) + ",\"heap_max\":" + r.maxMemory() + "}";
        response.setContentType("application/json");
        response.getOutputStream().write(text.getBytes(StandardCharsets.UTF_8));
    }
}
