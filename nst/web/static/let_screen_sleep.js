() => { window.awake?.release(); }
