//! Captures the output of an example for its test.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

#[derive(Clone, Default)]
pub(crate) struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn by(example: impl FnOnce(Printed)) -> String {
    let printed = Printed::default();
    example(printed.clone());
    let bytes = std::mem::take(&mut *printed.0.lock().unwrap());
    String::from_utf8(bytes).unwrap()
}
