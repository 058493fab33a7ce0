// A folder that was dropped on the page becomes a tar archive made of the
// files themselves: nothing is read into memory before it is sent.

const block = 512;

/** filesOf walks a dropped entry; paths are relative to it. */
async function filesOf(entry: FileSystemEntry, prefix: string): Promise<[string, File][]> {
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    return [[prefix + entry.name, file]];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: [string, File][] = [];
  for (;;) {
    // a reader hands out at most a hundred entries at a time
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return found;
    for (const e of some) found.push(...(await filesOf(e, prefix + entry.name + '/')));
  }
}

function header(name: string, size: number, modified: number, type: string): Uint8Array<ArrayBuffer> {
  const h = new Uint8Array(block);
  const put = (text: string, at: number) => h.set(new TextEncoder().encode(text), at);
  put(name, 0);
  put('0000644\0', 100);
  put('0000000\0', 108);
  put('0000000\0', 116);
  put(size.toString(8).padStart(11, '0') + '\0', 124);
  put(Math.floor(modified / 1000).toString(8).padStart(11, '0') + '\0', 136);
  put('        ', 148);
  put(type, 156);
  put('ustar\x0000', 257);
  const sum = h.reduce((a, b) => a + b, 0);
  put(sum.toString(8).padStart(6, '0') + '\0 ', 148);
  return h;
}

const padding = (size: number): Uint8Array<ArrayBuffer> => new Uint8Array((block - (size % block)) % block);

/** tarball packs files; long names go into an extended header (pax). */
export function tarball(files: [string, File][]): Blob {
  const parts: BlobPart[] = [];
  const encoder = new TextEncoder();
  for (const [name, file] of files) {
    if (encoder.encode(name).length > 100) {
      const body = ` path=${name}\n`;
      const bytes = encoder.encode(body).length;
      // the record's length counts its own digits
      let length = bytes + String(bytes).length;
      length = bytes + String(length).length;
      const record = encoder.encode(length + body);
      parts.push(header('pax', record.length, file.lastModified, 'x'), record, padding(record.length));
    }
    const short = encoder.encode(name).length > 100 ? 'long' : name;
    parts.push(header(short, file.size, file.lastModified, '0'), file, padding(file.size));
  }
  parts.push(new Uint8Array(2 * block));
  return new Blob(parts, { type: 'application/x-tar' });
}

/** dropped is what was dropped as one archive: a file as it is, a folder packed without its own name. */
export async function dropped(data: DataTransfer): Promise<File | undefined> {
  const entry = data.items[0]?.webkitGetAsEntry?.();
  if (!entry?.isDirectory) return data.files[0];
  const files = await filesOf(entry, '');
  const inside = files.map(([name, file]): [string, File] => [name.slice(entry.name.length + 1), file]);
  // chosen again after an interruption, an unchanged folder is the same file
  return new File([tarball(inside)], entry.name + '.tar', { lastModified: Math.max(0, ...inside.map(([, file]) => file.lastModified)) });
}
