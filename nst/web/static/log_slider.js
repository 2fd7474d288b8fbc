const shown = (power) => Number((10 ** power).toPrecision(2));
element.addEventListener('input', ({target}) => {
    if (target.type !== 'range') return;
    element.querySelector('[type=number]').value = shown(target.value);
    const filled = (target.value - target.min) / (target.max - target.min);
    target.style.setProperty('--filled', `${100 * filled}%`);
});
element.addEventListener('click', ({target}) => {
    if (target.type !== 'button') return;
    props.value = props.standard;
    trigger('change');
});
element.addEventListener('change', ({target}) => {
    props.value = target.type === 'range' ? shown(target.value) : target.valueAsNumber;
    trigger('change');
});
