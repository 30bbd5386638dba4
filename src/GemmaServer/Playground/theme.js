// Runs before the page is painted, so that a chosen theme does not flash. 'auto' leaves it to the system.
(() => {
  try {
    const theme = localStorage.getItem('gemmaserver.theme');
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  } catch {
    // Storage may be blocked; the system's choice is fine.
  }
})();
