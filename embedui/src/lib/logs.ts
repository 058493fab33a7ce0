// A log as it is followed: lines in blocks, bounded, so that a page that
// follows for days stays as quick as at its beginning.

const blockSize = 200;
const mostBlocks = 100;

export interface Line {
  n: number;
  text: string;
  level: '' | 'error' | 'warn' | 'debug';
}

export interface Block {
  id: number;
  lines: Line[];
}

const levels: [RegExp, Line['level']][] = [
  [/\b(ERROR|error|FATAL|fatal|CRIT|crit|emerg|panic)\b|" 5\d\d /, 'error'],
  [/\b(WARN(ING)?|warn(ing)?|Warning|notice)\b|" 4\d\d /, 'warn'],
  [/\b(DEBUG|debug)\b/, 'debug'],
];

export function levelOf(text: string): Line['level'] {
  return levels.find(([pattern]) => pattern.test(text))?.[1] ?? '';
}

/** Buffer holds the latest lines. Older blocks are the same objects from one change to the next, so they are not drawn again. */
export class Buffer {
  blocks: Block[] = [];
  dropped = 0;
  total = 0;
  #rest = '';

  add(chunk: string): void {
    const lines = (this.#rest + chunk).split('\n');
    this.#rest = lines.pop()!;
    if (lines.length === 0) return;
    const blocks = [...this.blocks];
    for (const text of lines) {
      const line: Line = { n: ++this.total, text: text.replace(/\r$/, ''), level: levelOf(text) };
      const last = blocks.at(-1);
      if (!last || last.lines.length >= blockSize) blocks.push({ id: line.n, lines: [line] });
      else blocks[blocks.length - 1] = { id: last.id, lines: [...last.lines, line] };
    }
    while (blocks.length > mostBlocks) this.dropped += blocks.shift()!.lines.length;
    this.blocks = blocks;
  }

  /** flush takes a last line that has no end. */
  flush(): void {
    if (this.#rest) this.add('\n');
  }

  /** matching keeps only the lines that contain the text. */
  matching(text: string): Block[] {
    if (!text) return this.blocks;
    const wanted = text.toLowerCase();
    return this.blocks.map((b) => ({ id: b.id, lines: b.lines.filter((l) => l.text.toLowerCase().includes(wanted)) })).filter((b) => b.lines.length);
  }
}
