// Light, dark, or as the system says.

export type Theme = 'system' | 'light' | 'dark';

class Themes {
  chosen = $state<Theme>('system');

  constructor() {
    try {
      const kept = localStorage.getItem('nutshell.theme');
      if (kept === 'light' || kept === 'dark') this.chosen = kept;
    } catch {
      // storage is forbidden: the choice lasts as long as the page
    }
  }

  choose(theme: Theme): void {
    this.chosen = theme;
    if (theme === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    try {
      if (theme === 'system') localStorage.removeItem('nutshell.theme');
      else localStorage.setItem('nutshell.theme', theme);
    } catch {
      // as above
    }
  }
}

export const themes = new Themes();
