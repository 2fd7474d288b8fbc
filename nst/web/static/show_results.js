() => {
    const behavior = matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth';
    if (window.innerWidth <= 768) document.querySelector('#results').scrollIntoView({behavior});
}
