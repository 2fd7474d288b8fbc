element.addEventListener('click', ({target}) => {
    const chosen = target.closest('[data-run]');
    if (chosen) trigger('click', {run: Number(chosen.dataset.run)});
});
