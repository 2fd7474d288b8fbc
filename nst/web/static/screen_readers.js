() => {
    // Gradio's preview is a button without a name, and the head of its messages a button around another.
    const mend = () => {
        document.querySelectorAll('#picture button:not([aria-label]):has(img)').forEach(
            (button) => button.setAttribute('aria-label', 'The picture so far'));
        document.querySelectorAll('.toast-header[role=button]').forEach(
            (head) => head.setAttribute('role', 'group'));
    };
    // The status line is replaced at each update, which nothing reads out. This one stays, and counts no steps aloud.
    const aloud = document.createElement('div');
    aloud.id = 'aloud';
    aloud.setAttribute('role', 'status');
    (document.querySelector('main') ?? document.body).append(aloud);
    let counted = 0;
    const announce = () => {
        const shown = [...document.querySelectorAll('.status p')].find((line) => line.offsetParent);
        const text = shown?.textContent ?? '';
        if (text === aloud.textContent) return;
        if (/\d+ s\b|step \d/.test(text) && !/^(Done|Stopped)/.test(text)) {
            if (Date.now() < counted + 10000) return;
            counted = Date.now();
        }
        aloud.textContent = text;
    };
    new MutationObserver(() => { mend(); announce(); }).observe(document.body, {childList: true, subtree: true});
}
