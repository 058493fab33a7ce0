// The colours of terminals, from the tokens of the page.
import type { ITheme } from '@xterm/xterm';

const named = ['black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white', 'brightBlack', 'brightRed', 'brightGreen', 'brightYellow', 'brightBlue', 'brightMagenta', 'brightCyan', 'brightWhite'] as const;

/** coloursOf reads the tokens as they are now, light or dark. */
export function coloursOf(host: HTMLElement): ITheme {
  const probe = document.createElement('span');
  probe.style.transitionProperty = 'none'; // a colour that still changes would be read as the one before
  host.append(probe);
  const read = (token: string): string => {
    probe.style.color = `var(--term-${token})`;
    return getComputedStyle(probe).color;
  };
  const theme: ITheme = { background: read('bg'), foreground: read('ink'), cursor: read('cursor'), cursorAccent: read('bg'), selectionBackground: read('selection') };
  named.forEach((name, i) => (theme[name] = read(String(i))));
  probe.remove();
  return theme;
}
