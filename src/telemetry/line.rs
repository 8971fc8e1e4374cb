//! One event, one line: what an error quotes may have line breaks, and must not look like further events.

use std::borrow::Cow;
use std::io::{self, Write};

/// Writes each event as one line. An event comes in one piece.
#[derive(Debug)]
pub(super) struct Lines<W>(pub(super) W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.write_all(&one_line(event))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn one_line(event: &[u8]) -> Cow<'_, [u8]> {
    let (line, end) = match event.strip_suffix(b"\n") {
        Some(line) => (line, &b"\n"[..]),
        None => (event, &b""[..]),
    };
    if !line.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Cow::Borrowed(event);
    }
    let mut whole = Vec::with_capacity(event.len() + 16);
    for byte in line {
        match byte {
            b'\n' => whole.extend(b"\\n"),
            b'\r' => whole.extend(b"\\r"),
            other => whole.push(*other),
        }
    }
    whole.extend(end);
    Cow::Owned(whole)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_an_event_quotes_does_not_look_like_another_event() {
        let shared = Shared::default();
        let writer = shared.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || Lines(writer.clone()))
            .finish();
        let quoted = "no\r\n2026-01-01T00:00:00Z  INFO callgate: all is well";
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(error = quoted, "refused: {quoted}");
            tracing::warn!("as it was");
        });
        let text = String::from_utf8(shared.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("refused: no\\r\\n2026-01-01"), "{text}");
        assert!(lines[1].ends_with("as it was") && text.ends_with('\n'), "{text}");
    }
}
