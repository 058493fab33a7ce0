package nutshell;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.NotSerializableException;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.io.ObjectStreamClass;
import java.io.Serializable;
import java.lang.reflect.Proxy;
import java.security.Principal;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import org.apache.catalina.session.StandardSession;

/**
 * A session that can be written down and read again, attribute by attribute:
 * one that cannot be written stays here, and one whose class a new version of
 * the application has changed is lost alone.
 */
final class Kept extends StandardSession {
    private static final long serialVersionUID = 1L;
    private static final int FORMAT = 1;

    private final transient Sessions keeper;
    /** Of the state that was last written or read; grows with each writing. */
    transient long revision;
    /** When it was written last, and what: attributes alone, without times. */
    transient long written;
    private transient byte[] content = new byte[0];
    private transient Set<String> known = new HashSet<>();
    /** Says that it is gone from here, but not from the service. */
    transient boolean moved;

    Kept(Sessions keeper) {
        super(keeper);
        this.keeper = keeper;
    }

    @Override
    public void expire(boolean notify) {
        String id = getIdInternal();
        boolean was = isValid;
        super.expire(notify);
        if (was && !isValid && !moved) {
            keeper.ended(id);
        }
    }

    /** The time after which it ends by itself, counted from the last use. */
    boolean idle(long now) {
        return maxInactiveInterval > 0 && now - thisAccessedTime >= maxInactiveInterval * 1000L;
    }

    /** What to write, or null when nothing has changed that must be known elsewhere now. */
    synchronized byte[] write(long now) throws IOException {
        byte[] fresh = attributesAndUser();
        if (Arrays.equals(fresh, content) && now - written < Math.min(10_000, Math.max(1, maxInactiveInterval) * 100L)) {
            return null;
        }
        content = fresh;
        written = now;
        revision = Math.max(revision + 1, now);
        ByteArrayOutputStream bytes = new ByteArrayOutputStream(fresh.length + 64);
        DataOutputStream out = new DataOutputStream(bytes);
        out.writeInt(FORMAT);
        out.writeLong(revision);
        out.writeLong(creationTime);
        out.writeLong(thisAccessedTime);
        out.writeInt(maxInactiveInterval);
        out.write(fresh);
        return bytes.toByteArray();
    }

    private byte[] attributesAndUser() throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        DataOutputStream out = new DataOutputStream(bytes);
        out.writeUTF(authType == null ? "" : authType);
        Principal user = getPrincipal();
        byte[] principal = user instanceof Serializable ? one("the user", user) : null;
        out.writeInt(principal == null ? -1 : principal.length);
        if (principal != null) {
            out.write(principal);
        }
        Set<String> names = new HashSet<>();
        for (Map.Entry<String, Object> e : attributes.entrySet()) {
            byte[] value = one(e.getKey(), e.getValue());
            if (value != null) {
                out.writeBoolean(true);
                out.writeUTF(e.getKey());
                out.writeInt(value.length);
                out.write(value);
                names.add(e.getKey());
            }
        }
        out.writeBoolean(false);
        known = names;
        return bytes.toByteArray();
    }

    private byte[] one(String name, Object value) throws IOException {
        if (!(value instanceof Serializable)) {
            keeper.stays(name, value);
            return null;
        }
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ObjectOutputStream out = new ObjectOutputStream(bytes)) {
            out.writeObject(value);
        } catch (NotSerializableException | RuntimeException e) { // something in it, or the application changes it at this moment
            keeper.stays(name, value);
            return null;
        }
        return bytes.toByteArray();
    }

    static long revisionOf(byte[] text) throws IOException {
        DataInputStream in = new DataInputStream(new ByteArrayInputStream(text));
        if (in.readInt() != FORMAT) {
            throw new IOException("it was written in another format");
        }
        return in.readLong();
    }

    /** Takes what was written elsewhere; attributes that only exist here stay. */
    synchronized void read(byte[] text, ClassLoader loader) throws IOException {
        DataInputStream in = new DataInputStream(new ByteArrayInputStream(text));
        in.readInt();
        long revision = in.readLong();
        creationTime = in.readLong();
        thisAccessedTime = in.readLong();
        lastAccessedTime = thisAccessedTime;
        maxInactiveInterval = in.readInt();
        int head = text.length - in.available();
        String type = in.readUTF();
        authType = type.isEmpty() ? null : type;
        int n = in.readInt();
        if (n >= 0) {
            setPrincipal((Principal) object("the user", in.readNBytes(n), loader));
        }
        Set<String> names = new HashSet<>();
        while (in.readBoolean()) {
            String name = in.readUTF();
            Object value = object(name, in.readNBytes(in.readInt()), loader);
            if (value != null) {
                attributes.put(name, value);
                names.add(name);
            }
        }
        for (String name : known) {
            if (!names.contains(name)) {
                attributes.remove(name);
            }
        }
        known = names;
        content = Arrays.copyOfRange(text, head, text.length);
        written = thisAccessedTime;
        this.revision = revision;
        isNew = false;
        isValid = true;
    }

    private Object object(String name, byte[] value, ClassLoader loader) {
        try (ObjectInputStream in = new Loading(new ByteArrayInputStream(value), loader)) {
            return in.readObject();
        } catch (IOException | ClassNotFoundException | LinkageError | RuntimeException e) {
            keeper.lost(name, e);
            return null;
        }
    }

    /** Finds classes where the application has them. */
    private static final class Loading extends ObjectInputStream {
        private final ClassLoader loader;

        Loading(InputStream in, ClassLoader loader) throws IOException {
            super(in);
            this.loader = loader;
        }

        @Override
        protected Class<?> resolveClass(ObjectStreamClass c) throws IOException, ClassNotFoundException {
            try {
                return Class.forName(c.getName(), false, loader);
            } catch (ClassNotFoundException e) {
                return super.resolveClass(c); // int.class and its like
            }
        }

        @Override
        protected Class<?> resolveProxyClass(String[] names) throws IOException, ClassNotFoundException {
            Class<?>[] all = new Class<?>[names.length];
            for (int i = 0; i < names.length; i++) {
                all[i] = Class.forName(names[i], false, loader);
            }
            return Proxy.newProxyInstance(loader, all, (p, m, a) -> null).getClass();
        }
    }
}
