package nutshell;

import java.io.IOException;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.catalina.LifecycleException;
import org.apache.catalina.LifecycleState;
import org.apache.catalina.Session;
import org.apache.catalina.connector.Request;
import org.apache.catalina.session.ManagerBase;
import org.apache.catalina.session.StandardSession;
import org.apache.juli.logging.Log;
import org.apache.juli.logging.LogFactory;

/**
 * Keeps sessions in memory and in the service's session store. A request finds
 * its session as it was left by whichever Tomcat had it last; where the store
 * does not answer, what is in memory must do.
 */
public final class Sessions extends ManagerBase {
    private static final Log LOG = LogFactory.getLog(Sessions.class);
    private static final int FOR_EVER = 30 * 24 * 3600; // of sessions that never expire: an unused month is the end
    private static final int LARGEST = 1 << 20;
    private static final byte[] ENDED = {'-'};

    private final Set<String> told = ConcurrentHashMap.newKeySet();
    private Store store;

    /** The Unix socket of the store. */
    public void setStore(String path) {
        store = path.isEmpty() ? null : new Store(path);
    }

    @Override
    public String getName() {
        return "Sessions";
    }

    @Override
    protected StandardSession getNewSession() {
        return new Kept(this);
    }

    /** Brings the session of a request up to date. */
    void enter(String id) {
        if (store == null || id == null || id.length() > 256) {
            return;
        }
        Kept here = (Kept) sessions.get(id);
        try {
            byte[] text = store.get(id);
            if (text == null) {
                return; // not written yet, or the store has forgotten it
            }
            if (text.length <= ENDED.length) {
                if (here != null) { // somebody has logged out elsewhere
                    here.expire();
                }
                return;
            }
            if (here != null && Kept.revisionOf(text) <= here.revision) {
                return;
            }
            Kept session = here != null ? here : (Kept) createEmptySession();
            session.read(text, getContext().getLoader().getClassLoader());
            if (session.idle(System.currentTimeMillis())) {
                return;
            }
            if (here == null) {
                session.setId(id, false);
                Session first = sessions.putIfAbsent(id, session); // of two requests at once
                if (first == null) {
                    session.setValid(true);
                }
            }
        } catch (IOException e) {
            once("store", "The session store does not answer: " + e);
        }
    }

    /** Keeps what a request has made of its session. */
    void leave(Request request) {
        if (store == null) {
            return;
        }
        Session session = request.getSessionInternal(false);
        if (session instanceof Kept && session.isValid()) {
            keep((Kept) session);
        }
    }

    private void keep(Kept session) {
        try {
            byte[] text = session.write(System.currentTimeMillis());
            if (text == null) {
                return;
            }
            if (text.length > LARGEST) {
                once("size", "A session of " + text.length + " bytes is too large to be kept elsewhere");
                return;
            }
            int seconds = session.getMaxInactiveInterval();
            store.set(session.getIdInternal(), seconds > 0 ? seconds + 15 : FOR_EVER, text);
            told.remove("store");
        } catch (IOException e) {
            session.written = 0; // with the next request
            once("store", "The session store does not answer: " + e);
        }
    }

    /** A session was ended on purpose, or by its time. */
    void ended(String id) {
        if (store == null || !getState().isAvailable()) {
            return;
        }
        try {
            store.set(id, Math.max(60, getContext().getSessionTimeout() * 60), ENDED);
        } catch (IOException e) {
            LOG.warn("A session that ended may live on elsewhere: " + e);
        }
    }

    @Override
    public void changeSessionId(Session session, String newId) {
        String old = session.getIdInternal();
        super.changeSessionId(session, newId);
        if (session instanceof Kept) {
            ((Kept) session).written = 0;
            ((Kept) session).revision = 0;
        }
        ended(old);
    }

    /** Ends sessions that nobody uses, and forgets those that live on elsewhere. */
    @Override
    public void processExpires() {
        long now = System.currentTimeMillis();
        for (Session s : findSessions()) {
            Kept session = (Kept) s;
            if (store == null || !session.idle(now)) {
                session.isValid();
                continue;
            }
            try {
                byte[] text = store.get(session.getIdInternal());
                if (text != null && text.length > ENDED.length && Kept.revisionOf(text) > session.revision) {
                    session.moved = true;
                    sessions.remove(session.getIdInternal());
                    continue;
                }
            } catch (IOException e) {
                continue; // next time
            }
            session.isValid();
        }
    }

    void stays(String name, Object value) {
        once("stays " + name, "Session attribute " + name + " of class " + value.getClass().getName() + " is not serializable: it stays on this instance and is lost with it");
    }

    void lost(String name, Throwable why) {
        once("lost " + name, "Session attribute " + name + " could not be read and is dropped: " + why);
    }

    private void once(String what, String text) {
        if (told.size() < 100 && told.add(what)) {
            LOG.warn(text);
        }
    }

    @Override
    public void load() {
        // by request
    }

    @Override
    public void unload() {
        for (Session s : findSessions()) {
            Kept session = (Kept) s;
            if (store != null && session.isValid()) {
                keep(session);
            }
        }
    }

    @Override
    protected void startInternal() throws LifecycleException {
        super.startInternal();
        setState(LifecycleState.STARTING);
    }

    @Override
    protected void stopInternal() throws LifecycleException {
        setState(LifecycleState.STOPPING);
        unload();
        super.stopInternal();
    }
}
