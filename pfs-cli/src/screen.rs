//! Full-screen terminal output for `pfs stat --watch`.
//!
//! Uses the terminal's alternate screen, so that the previous contents come back when `pfs` leaves
//! it. Keys are read unbuffered and without echo. Every signal that would end or stop `pfs` is
//! caught, so that the terminal is restored first.

use std::{
    io::{self, Write as _},
    os::fd::{AsFd, BorrowedFd},
};

use console::truncate_str;
use rustix::{
    process::{Signal, getpid, kill_process},
    termios::{
        LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcgetwinsize,
        tcsetattr,
    },
};
use tokio::signal::unix::SignalKind;

use crate::{
    exit_code::ExitCode,
    output::{OutputError, Stdout},
    printer::Printer,
    readable::Readable,
    session,
    signals::{Caught, Signals, catch, one},
};

/// Escape sequences: alternate screen, hidden cursor, no line wrap. Lines must not wrap, because a
/// terminal may show a character wider than `pfs` measures it.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &[u8] = b"\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Window size in lines and columns if the terminal does not know its own.
const USUAL_WINDOW: (usize, usize) = (24, 80);

/// Control-C and Control-D, for a terminal that does not turn them into a signal and an end
/// of file.
const INTERRUPT: u8 = 3;
const END: u8 = 4;

/// Standard output as a full screen. Dropping it restores the terminal.
#[derive(Debug)]
pub(crate) struct Screen {
    stdout: Stdout,
    printer: Printer,
    keys: Option<Keys>,
    signals: Signals,
    quit: Caught,
    stop: Caught,
    resume: Caught,
    resize: Caught,
    text: String,
    is_entered: bool,
}

impl Screen {
    /// Takes over the terminal. Messages of `printer` are shown below the text, and printed again
    /// on the normal screen at the end. Must be called inside a runtime.
    ///
    /// # Errors
    ///
    /// Standard output cannot be written, or the system does not let `pfs` catch a signal.
    pub(crate) fn open(printer: &Printer) -> Result<Self, OutputError> {
        let mut screen = Self {
            stdout: Stdout::open()?,
            printer: printer.clone(),
            signals: Signals::catch()?,
            quit: catch(SignalKind::quit())?,
            stop: catch(SignalKind::from_raw(Signal::TSTP.as_raw()))?,
            resume: catch(SignalKind::from_raw(Signal::CONT.as_raw()))?,
            resize: catch(SignalKind::window_change())?,
            keys: Keys::open()?,
            text: String::new(),
            is_entered: false,
        };
        printer.hold();
        screen.enter()?;
        Ok(screen)
    }

    /// Shows this text in place of the last one, as much as fits.
    ///
    /// # Errors
    ///
    /// Standard output cannot be written.
    pub(crate) fn show(&mut self, text: String) -> Result<(), OutputError> {
        self.text = text;
        self.draw()
    }

    /// Waits until the user quits or a signal ends `pfs`, and returns the exit code. Redraws when
    /// the window size changes.
    ///
    /// # Errors
    ///
    /// Standard output cannot be written.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn ended(&mut self) -> Result<ExitCode, OutputError> {
        loop {
            tokio::select! {
                biased;
                signal = self.signals.next() => return Ok(ExitCode::from_signal(signal.as_raw())),
                () = one(&mut self.quit) => return Ok(ExitCode::from_signal(Signal::QUIT.as_raw())),
                () = one(&mut self.stop) => self.suspend(),
                () = one(&mut self.resume) => {
                    self.enter()?;
                    self.draw()?;
                }
                () = one(&mut self.resize) => self.draw()?,
                code = Keys::end(self.keys.as_ref()) => return Ok(code),
            }
        }
    }

    fn draw(&mut self) -> Result<(), OutputError> {
        if self.is_entered {
            let window = window(self.stdout.descriptor());
            let text = format!("{}{}", self.text, self.printer.held());
            self.stdout.write_all(frame(&text, window).as_bytes())?;
        }
        Ok(())
    }

    fn enter(&mut self) -> Result<(), OutputError> {
        // Must come first: in the background, this call stops the process until the shell gives it
        // the terminal.
        if let Some(keys) = &self.keys {
            keys.come_at_once()?;
        }
        self.is_entered = true;
        Ok(self.stdout.write_all(ENTER)?)
    }

    fn leave(&mut self) {
        if std::mem::take(&mut self.is_entered) {
            // Ignored: a terminal that cannot be written cannot be restored either.
            let _ = self.stdout.write_all(LEAVE);
            if let Some(keys) = &self.keys {
                keys.restore();
            }
        }
    }

    /// Stops this process, as SIGTSTP would have done, until a shell continues it.
    fn suspend(&mut self) {
        // Without a shell in its session, the process would stay stopped for ever. The kernel
        // ignores SIGTSTP in that case, too.
        if session::is_shared_with_parent() {
            self.leave();
            let _ = kill_process(getpid(), Signal::STOP);
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
        self.printer.release();
    }
}

/// Keyboard input from a terminal on standard input.
#[derive(Debug)]
struct Keys {
    readable: Readable,
    /// Settings of the terminal, to restore at the end.
    saved: Termios,
}

impl Keys {
    /// `None` if standard input is not a terminal.
    fn open() -> io::Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) {
            return Ok(None);
        }
        let saved = tcgetattr(stdin)?;
        Ok(Some(Self { readable: Readable::new(stdin.try_clone_to_owned()?)?, saved }))
    }

    fn come_at_once(&self) -> io::Result<()> {
        let mut settings = self.saved.clone();
        settings.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        settings.special_codes[SpecialCodeIndex::VMIN] = 1;
        settings.special_codes[SpecialCodeIndex::VTIME] = 0;
        Ok(tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &settings)?)
    }

    fn restore(&self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.saved);
    }

    /// Waits for a key that ends the run, and returns the exit code. Never returns without
    /// a keyboard.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    async fn end(keys: Option<&Self>) -> ExitCode {
        let Some(Self { readable, .. }) = keys else { return std::future::pending().await };
        loop {
            while !readable.now() {
                readable.wait().await;
            }
            let mut pressed = [0; 64];
            match rustix::io::read(rustix::stdio::stdin(), &mut pressed) {
                Ok(len @ 1..) => {
                    for key in pressed.iter().take(len) {
                        match key {
                            b'q' | b'Q' | &END => return ExitCode::Success,
                            &INTERRUPT => return ExitCode::from_signal(Signal::INT.as_raw()),
                            _ => {}
                        }
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                // The terminal is gone. Standard output reports this, too.
                Ok(_) | Err(_) => return std::future::pending().await,
            }
        }
    }
}

fn window(terminal: BorrowedFd<'_>) -> (usize, usize) {
    match tcgetwinsize(terminal.as_fd()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
        _ => USUAL_WINDOW,
    }
}

/// Builds the escape sequences that draw a text over the contents of the window.
fn frame(text: &str, window: (usize, usize)) -> String {
    let lines = fit(text, window);
    // Each line is cleared before it is written. Clearing after a full line would erase its last
    // character, because the cursor is still on the last column.
    let drawn: Vec<String> = lines.iter().map(|line| format!("\x1b[K{line}")).collect();
    let below = if lines.len() < window.0 { "\r\n\x1b[J" } else { "" };
    format!("\x1b[H{}{below}", drawn.join("\r\n"))
}

/// Returns the lines that fit the window, each cut to its width. If some lines do not fit, the last
/// line says how many.
fn fit(text: &str, (rows, columns): (usize, usize)) -> Vec<String> {
    let cut = |line: &str| truncate_str(line, columns, "…").into_owned();
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= rows {
        return lines.into_iter().map(cut).collect();
    }
    let shown = rows.saturating_sub(1);
    let missing = lines.len().saturating_sub(shown);
    let note = format!("{missing} more lines do not fit this window");
    lines.into_iter().take(shown).map(cut).chain([cut(&note)]).collect()
}

#[cfg(test)]
mod tests {
    use console::measure_text_width;

    use super::*;

    #[test]
    fn a_text_that_fits_is_shown_unchanged() {
        assert_eq!(fit("one\n\nthree\n", (3, 5)), ["one", "", "three"]);
        assert_eq!(fit("", (3, 5)), Vec::<String>::new());
    }

    #[test]
    fn text_that_does_not_fit_is_cut_and_missing_lines_are_counted() {
        assert_eq!(fit("1\n2\n3\n4\n", (3, 80)), ["1", "2", "2 more lines do not fit this window"]);
        assert_eq!(fit("1\n2\n", (1, 80)), ["2 more lines do not fit this window"]);
        assert_eq!(fit("1\n2\n", (1, 6)), ["2 mor…"]);
        assert_eq!(fit("123456\n1234567\n", (2, 6)), ["123456", "12345…"]);
    }

    #[test]
    fn a_line_is_cut_by_its_displayed_width_and_keeps_the_end_of_its_style() {
        for line in [
            "監視カメラ",
            "e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}",
            "📷📷📷📷",
            "a監b視c",
        ] {
            for columns in 1..12 {
                let cut = &fit(line, (1, columns))[0];
                assert!(measure_text_width(cut) <= columns, "{cut:?} in {columns}");
            }
        }
        assert_eq!(fit("\x1b[1m監視カメラ\x1b[0m", (1, 6)), ["\x1b[1m監視…\x1b[0m"]);
    }

    #[test]
    fn a_frame_neither_scrolls_the_window_nor_clears_what_it_has_just_drawn() {
        assert_eq!(frame("one\ntwo\n", (3, 80)), "\x1b[H\x1b[Kone\r\n\x1b[Ktwo\r\n\x1b[J");
        assert_eq!(frame("one\ntwo\n", (2, 3)), "\x1b[H\x1b[Kone\r\n\x1b[Ktwo");
    }
}
