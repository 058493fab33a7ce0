// Sizes of volumes as people write them: 500M, 4G.

/** parseSize is a size in bytes, 0 where the text is none. */
export function parseSize(text: string): number {
  const match = /^\s*(\d+(?:[.,]\d+)?)\s*(k|m|g|t)?i?b?\s*$/i.exec(text);
  if (!match) return 0;
  const unit = { k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 }[match[2]?.toLowerCase() ?? 'm'] ?? 1;
  return Math.round(Number(match[1].replace(',', '.')) * unit);
}

/** sizeText is the shortest text that parseSize reads back as the same. */
export function sizeText(bytes: number): string {
  for (const [unit, of] of [['T', 2 ** 40], ['G', 2 ** 30], ['M', 2 ** 20]] as const) if (bytes >= of && bytes % of === 0) return bytes / of + unit;
  return Math.ceil(bytes / 2 ** 20) + 'M';
}
