// Runs before the first paint, so that the chosen theme never flashes.
try {
  const theme = localStorage.getItem('nutshell.theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch { /* storage is forbidden: the system's theme is used */ }
