() => {
    // A phone that goes to sleep would lose its run.
    navigator.wakeLock?.request('screen').then((lock) => { window.awake = lock; }, () => {});
}
