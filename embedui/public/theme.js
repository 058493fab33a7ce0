// Runs before the first paint, so that the chosen theme never flashes.
try {
  const theme = localStorage.getItem('nutshell.theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch { /* storage is forbidden: the system's theme is used */ }

// Browsers give up what they are loading when a network of their machine comes
// or goes, and instances of a director on the same machine bring networks. A
// page without its scripts would stay empty, so it is loaded again: five times,
// at longer and longer intervals. Styles are asked for again one by one, which
// leaves what somebody typed where it is.
addEventListener('error', (e) => {
  const link = e.target;
  if (link instanceof HTMLLinkElement && link.rel === 'stylesheet') {
    const times = Number(link.dataset.again ?? 0);
    if (times >= 5) return;
    const next = link.cloneNode();
    next.dataset.again = times + 1;
    setTimeout(() => link.replaceWith(next), 300 * 2 ** times);
  }
  if (!(link instanceof HTMLScriptElement)) return;
  try {
    const times = Number(sessionStorage.getItem('nutshell.again'));
    if (times >= 5) return;
    sessionStorage.setItem('nutshell.again', times + 1);
    setTimeout(() => location.reload(), 300 * 2 ** times);
  } catch { /* storage is forbidden: it might load for ever */ }
}, true);
