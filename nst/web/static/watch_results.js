(...values) => {
    const behavior = matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth';
    if (window.innerWidth <= 768) document.querySelector('#results').scrollIntoView({behavior});
    // A phone that goes to sleep would lose its run.
    navigator.wakeLock?.request('screen').then((lock) => { window.awake = lock; }, () => {});
    return values;
}
