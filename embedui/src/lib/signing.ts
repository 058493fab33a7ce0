// The vocabulary of signing in, and what browsers do with passkeys.
import { post } from './client';
import type { components } from './schema';

type Schemas = components['schemas'];
export type Factors = Schemas['Factors'];
export type NewTOTP = Schemas['NewTOTP'];
export type RecoveryCodes = Schemas['RecoveryCodes'];
export type Passkey = Schemas['Passkey'];
export type OpenSession = Schemas['OpenSession'];
export type Setup = Schemas['Setup'];
interface Ceremony { id: string; options: Record<string, unknown> }
interface Descriptor { id: string; type: 'public-key'; transports?: AuthenticatorTransport[] }

const isAddress = (host: string): boolean => /^[\d.]+$|^\[/.test(host);

/** byName says whether the page was opened by a name: browsers have passkeys for no address. */
export const byName = (): boolean => !isAddress(location.hostname);

/** passkeysWork says whether this browser can make and use passkeys here. */
export const passkeysWork = (): boolean => byName() && window.isSecureContext && typeof PublicKeyCredential === 'function';

function bytes(text: string): ArrayBuffer {
  const raw = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
  return Uint8Array.from(raw, (c) => c.charCodeAt(0)).buffer;
}

function text(buffer: ArrayBuffer | null | undefined): string | undefined {
  if (!buffer) return undefined;
  return btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

const listed = (keys: unknown) => ((keys ?? []) as Descriptor[]).map((k) => ({ ...k, id: bytes(k.id) }));

/** makePasskey has the browser make one; undefined: its user gave up. */
export async function makePasskey(begin: Ceremony): Promise<{ ceremony: string; credential: unknown } | undefined> {
  const o = begin.options as Record<string, never>;
  const user = o.user as { id: string; name: string; displayName: string };
  const made = await ask(() => navigator.credentials.create({ publicKey: { ...(o as object), challenge: bytes(o.challenge), user: { ...user, id: bytes(user.id) }, excludeCredentials: listed(o.excludeCredentials) } as PublicKeyCredentialCreationOptions }));
  if (!made) return undefined;
  const answer = made.response as AuthenticatorAttestationResponse;
  return { ceremony: begin.id, credential: { id: made.id, rawId: text(made.rawId), type: made.type, clientExtensionResults: {}, authenticatorAttachment: made.authenticatorAttachment ?? undefined, response: { clientDataJSON: text(answer.clientDataJSON), attestationObject: text(answer.attestationObject), transports: answer.getTransports?.() ?? [] } } };
}

/** usePasskey asks for any passkey that the browser has for this name; undefined: its user gave up. */
export async function usePasskey(): Promise<{ ceremony: string; credential: unknown } | undefined> {
  const begin = await post<Ceremony>('/session/passkey/begin');
  const o = begin.options as Record<string, never>;
  const used = await ask(() => navigator.credentials.get({ publicKey: { ...(o as object), challenge: bytes(o.challenge), allowCredentials: listed(o.allowCredentials) } as PublicKeyCredentialRequestOptions }));
  if (!used) return undefined;
  const answer = used.response as AuthenticatorAssertionResponse;
  return { ceremony: begin.id, credential: { id: used.id, rawId: text(used.rawId), type: used.type, clientExtensionResults: {}, authenticatorAttachment: used.authenticatorAttachment ?? undefined, response: { clientDataJSON: text(answer.clientDataJSON), authenticatorData: text(answer.authenticatorData), signature: text(answer.signature), userHandle: text(answer.userHandle) } } };
}

/** PasskeyError is what the browser says, which is never worth more than a kind. */
export class PasskeyError extends Error {
  constructor(readonly kind: 'there' | 'refused') {
    super(kind);
  }
}

async function ask(does: () => Promise<Credential | null>): Promise<PublicKeyCredential | undefined> {
  try {
    return (await does()) as PublicKeyCredential;
  } catch (e) {
    const name = e instanceof DOMException ? e.name : '';
    if (name === 'NotAllowedError' || name === 'AbortError') return undefined; // closed, or too slow
    throw new PasskeyError(name === 'InvalidStateError' ? 'there' : 'refused');
  }
}

/** programOf is a browser and its system in a few words. */
export function programOf(agent: string): string {
  const browser = (/Edg\//.test(agent) && 'Edge') || (/Firefox\//.test(agent) && 'Firefox') || (/Chrom(e|ium)\//.test(agent) && 'Chrome') || (/Safari\//.test(agent) && 'Safari') || agent.split(/[/ ]/)[0] || '';
  const system = (/Android/.test(agent) && 'Android') || (/iPhone|iPad/.test(agent) && 'iOS') || (/Mac OS/.test(agent) && 'macOS') || (/Windows/.test(agent) && 'Windows') || (/Linux/.test(agent) && 'Linux') || '';
  return [browser, system].filter(Boolean).join(', ');
}
