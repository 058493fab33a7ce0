// One terminal: an xterm, its WebSocket, and what is known of both. It goes on
// while the reader looks at other pages.
import { FitAddon } from '@xterm/addon-fit';
import { SearchAddon } from '@xterm/addon-search';
import { Terminal } from '@xterm/xterm';
import type { Problem } from '../lib/api';
import { ApiError, problem, raw, unreachable } from '../lib/client';
import { live } from '../lib/live.svelte';
import { t } from '../lib/text.svelte';
import { coloursOf } from './colours';
import { paper } from './paper';
import { ackEvery, chunk, type Frame, type Hello, windowOf } from './wire';

export type Phase = 'connecting' | 'open' | 'ended' | 'broken';

export interface Look {
  size: number;
  reader: boolean;
}

export class TerminalSession {
  readonly instance: string;
  readonly number: number;
  /** path of the instance below /api/v1 */
  readonly path: string;
  readonly element = document.createElement('div');
  readonly search = new SearchAddon();
  phase = $state<Phase>('connecting');
  hello = $state.raw<Hello | null>(null);
  /** why it is broken */
  why = $state.raw<Problem | null>(null);
  code = $state(0);
  /** seconds until it is closed because nobody types; 0: not soon */
  idle = $state(0);
  title = $state('');
  /** bell rang while nobody looked */
  rang = $state(false);

  #term: Terminal;
  #fit = new FitAddon();
  #socket: WebSocket | null = null;
  #sent = 0;
  #taken = 0;
  #waiting: Uint8Array[] = [];
  #countdown: ReturnType<typeof setInterval> | undefined;
  #opened = false;
  #greeted = false;
  /** what the next key typed on the screen's own keys is combined with */
  ctrl = $state(false);

  constructor(instance: string, number: number, path: string, look: Look, leave: () => void, find: () => void) {
    this.instance = instance;
    this.number = number;
    this.path = path;
    this.element.className = 'term';
    this.#term = new Terminal({
      documentOverride: paper, fontFamily: getComputedStyle(document.documentElement).getPropertyValue('--mono'), fontSize: look.size, lineHeight: 1.15,
      screenReaderMode: look.reader, scrollback: 5000, cursorBlink: !matchMedia('(prefers-reduced-motion: reduce)').matches, allowProposedApi: true, macOptionIsMeta: true,
    });
    this.#term.loadAddon(this.#fit);
    this.#term.loadAddon(this.search);
    this.#term.onData((text) => this.type(text));
    this.#term.onBinary((text) => this.#send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
    this.#term.onResize((resize) => this.#tell({ resize }));
    this.#term.onTitleChange((title) => (this.title = title.slice(0, 80)));
    this.#term.onBell(() => (this.rang = true));
    this.#term.attachCustomKeyEventHandler((e) => this.#key(e, leave, find));
  }

  /** show puts the terminal into a place on the page. */
  show(host: HTMLElement): void {
    host.append(this.element);
    if (!this.#opened) {
      this.#opened = true;
      this.#term.open(this.element);
      this.recolour();
      this.#term.textarea?.setAttribute('aria-label', t('Terminal of {instance}. Control F6 leaves it.', { instance: this.instance }));
    }
    this.fit();
    this.rang = false;
    if (this.phase === 'connecting' && !this.#socket) this.connect();
  }

  fit(): void {
    if (this.element.clientWidth > 0) this.#fit.fit();
  }

  focus(): void {
    this.#term.focus();
  }

  recolour(): void {
    if (this.#opened) this.#term.options.theme = coloursOf(this.element);
  }

  set look(look: Look) {
    this.#term.options.fontSize = look.size;
    this.#term.options.screenReaderMode = look.reader;
    this.fit();
  }

  selection(): string {
    return this.#term.getSelection();
  }

  clear(): void {
    this.#term.clear();
    this.#term.focus();
  }

  paste(text: string): void {
    this.#term.paste(text);
  }

  /** type sends text as if it had come from the keyboard. */
  type(text: string): void {
    if (this.ctrl && text.length === 1) {
      this.ctrl = false;
      text = String.fromCharCode(text.toUpperCase().charCodeAt(0) & 31);
    }
    this.#send(new TextEncoder().encode(text));
  }

  /** stay says that somebody is there. */
  stay(): void {
    this.#tell({ resize: { cols: this.#term.cols, rows: this.#term.rows } });
  }

  /** connect opens the connection, anew after it broke. */
  connect(): void {
    this.phase = 'connecting';
    [this.why, this.idle, this.#sent, this.#taken, this.#waiting] = [null, 0, 0, 0, []];
    const query = new URLSearchParams({ cols: String(this.#term.cols), rows: String(this.#term.rows) });
    const socket = new WebSocket(`${location.origin.replace(/^http/, 'ws')}/api/v1${this.path}/terminal?${query}`);
    socket.binaryType = 'arraybuffer';
    this.#socket = socket;
    let met = false;
    socket.onmessage = (e: MessageEvent<string | ArrayBuffer>) => {
      if (typeof e.data === 'string') {
        met = true;
        this.#hear(JSON.parse(e.data) as Frame);
      } else this.#print(new Uint8Array(e.data));
    };
    socket.onclose = () => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      this.#quiet();
      if (this.phase === 'ended' || this.phase === 'broken') return;
      if (met) this.#break(live.link === 'live' ? { code: 'unavailable', message: t('The connection broke off.'), hint: t('The shell has ended with it. Connect again for a new one.') } : unreachable().problem);
      else void this.#ask();
    };
  }

  /** close ends the shell and frees everything. */
  close(): void {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
    this.#quiet();
    this.#term.dispose();
    this.element.remove();
  }

  // A browser does not say why a WebSocket was refused; the same path asked
  // for in the ordinary way does.
  async #ask(): Promise<void> {
    try {
      await raw(`${this.path}/terminal`);
    } catch (e) {
      const said = problem(e);
      const socketOnly = e instanceof ApiError && said.code === 'invalid';
      this.#break(socketOnly ? { code: 'unavailable', message: t('The connection was refused on its way.'), hint: t('Something between this browser and Nutshell does not let WebSockets pass.') } : said);
    }
  }

  #break(why: Problem): void {
    this.phase = 'broken';
    this.why = why;
  }

  #hear(f: Frame): void {
    if (f.hello) {
      this.hello = f.hello;
      this.phase = 'open';
      if (this.#greeted) this.#term.write('\r\n');
      this.#greeted = true;
      this.stay();
    }
    if (f.ack) {
      this.#sent -= f.ack;
      this.#flush();
    }
    if (f.idle) {
      this.#quiet();
      if (f.idle > 0) {
        this.idle = f.idle;
        this.#countdown = setInterval(() => (this.idle = Math.max(1, this.idle - 1)), 1000);
      }
    }
    if (f.exit) {
      this.phase = 'ended';
      this.code = f.exit.code;
    }
    if (f.error) this.#break(f.error);
  }

  #quiet(): void {
    clearInterval(this.#countdown);
    this.idle = 0;
  }

  // What is printed is acknowledged when xterm has drawn it, so that a program
  // that prints without end waits for this page.
  #print(bytes: Uint8Array): void {
    const socket = this.#socket;
    this.#term.write(bytes, () => {
      this.#taken += bytes.length;
      if (this.#taken < ackEvery || socket !== this.#socket) return;
      this.#tell({ ack: this.#taken });
      this.#taken = 0;
    });
  }

  #tell(f: Frame): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(f));
  }

  #send(bytes: Uint8Array): void {
    if (this.phase !== 'open') return;
    for (let at = 0; at < bytes.length; at += chunk) this.#waiting.push(bytes.slice(at, at + chunk));
    this.#flush();
  }

  #flush(): void {
    while (this.#waiting.length && this.#sent + this.#waiting[0].length <= windowOf && this.#socket?.readyState === WebSocket.OPEN) {
      const next = this.#waiting.shift() as Uint8Array<ArrayBuffer>;
      this.#sent += next.length;
      this.#socket.send(next);
    }
  }

  #key(e: KeyboardEvent, leave: () => void, find: () => void): boolean {
    if (e.type !== 'keydown') return true;
    const both = e.ctrlKey && e.shiftKey;
    if (e.key === 'F6' && e.ctrlKey) leave();
    else if (both && e.code === 'KeyF') find();
    else if (both && e.code === 'KeyC') void navigator.clipboard?.writeText(this.selection());
    else if (both && e.code === 'KeyV') return false; // the browser pastes
    else return true;
    e.preventDefault();
    return false;
  }
}
