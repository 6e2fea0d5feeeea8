//! Reads and writes the fields of messages: numbers, strings, times.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{Frame, HEADER_LEN, MAX_PAYLOAD, MessageError, StreamPath, frame::header};

/// Frame writer: encodes one frame field by field.
///
/// No message outgrows a frame: strings are cut at [`u16::MAX`] bytes, and lists where the payload
/// would end.
pub(super) struct FieldWriter<'a> {
    out: &'a mut BytesMut,
    start: usize,
    kind: u8,
}

impl<'a> FieldWriter<'a> {
    pub(super) fn new(kind: u8, out: &'a mut BytesMut) -> Self {
        let start = out.len();
        out.put_slice(&header(kind, 0));
        Self { out, start, kind }
    }

    /// Writes the header, now that the length is known.
    pub(super) fn finish(self) {
        let header = header(self.kind, self.len());
        if let Some(place) =
            self.out.get_mut(self.start..).and_then(|frame| frame.first_chunk_mut())
        {
            *place = header;
        }
    }

    /// Bytes of payload written so far.
    fn len(&self) -> usize {
        self.out.len().saturating_sub(self.start.saturating_add(HEADER_LEN))
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.out.put_u8(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.out.put_u16_le(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.out.put_u32_le(value);
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.out.put_u64_le(value);
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.u8(value.into());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.out.put_slice(bytes);
    }

    pub(super) fn string(&mut self, string: &str) {
        let cut = &string[..string.floor_char_boundary(usize::from(u16::MAX))];
        self.u16(u16::try_from(cut.len()).unwrap_or(u16::MAX));
        self.bytes(cut.as_bytes());
    }

    /// Writes as many strings as fit, and leaves `reserve` bytes free for the fields that follow.
    pub(super) fn strings(&mut self, strings: &[String], reserve: usize) {
        let mut room = MAX_PAYLOAD.saturating_sub(self.len().saturating_add(reserve));
        let fitting = strings.iter().take(u16::MAX.into()).take_while(|string| {
            let len = string.len().min(u16::MAX.into()).saturating_add(2);
            room.checked_sub(len).map(|left| room = left).is_some()
        });
        let fitting = fitting.count();
        self.u16(u16::try_from(fitting).unwrap_or(u16::MAX));
        for string in strings.iter().take(fitting) {
            self.string(string);
        }
    }

    pub(super) fn duration(&mut self, duration: Duration) {
        self.u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Writes a time; a time before 1970 becomes 1970.
    pub(super) fn time(&mut self, time: SystemTime) {
        self.duration(time.duration_since(UNIX_EPOCH).unwrap_or_default());
    }

    pub(super) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Frame reader: decodes the payload of one frame field by field, never past its end.
pub(super) struct FieldReader {
    payload: Bytes,
    kind: u8,
}

impl FieldReader {
    pub(super) fn new(frame: Frame) -> Self {
        Self { payload: frame.payload, kind: frame.kind }
    }

    /// Returns true if the payload is consumed.
    pub(super) fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// Checks that the payload is consumed.
    pub(super) fn finish(self) -> Result<(), MessageError> {
        match self.payload.len() {
            0 => Ok(()),
            extra => Err(MessageError::TrailingBytes { kind: self.kind, extra }),
        }
    }

    /// Returns the unread rest of the payload.
    pub(super) fn rest(self) -> Bytes {
        self.payload
    }

    /// Creates the error for a field whose value has no meaning.
    pub(super) fn bad(&self, field: &'static str, value: u64) -> MessageError {
        MessageError::BadValue { kind: self.kind, field, value }
    }

    fn truncated(&self) -> MessageError {
        MessageError::Truncated { kind: self.kind }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let array = *self.payload.first_chunk::<N>().ok_or_else(|| self.truncated())?;
        self.payload.advance(N);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, MessageError> {
        let [value] = self.array()?;
        Ok(value)
    }

    pub(super) fn u16(&mut self) -> Result<u16, MessageError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, MessageError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, MessageError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn bool(&mut self, field: &'static str) -> Result<bool, MessageError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(self.bad(field, value.into())),
        }
    }

    pub(super) fn string(&mut self) -> Result<String, MessageError> {
        let len = usize::from(self.u16()?);
        let bytes = self.payload.get(..len).ok_or_else(|| self.truncated())?;
        let string = str::from_utf8(bytes)
            .map_err(|_| MessageError::NotUtf8 { kind: self.kind })?
            .to_owned();
        self.payload.advance(len);
        Ok(string)
    }

    /// Reads a list of strings. Memory grows with the strings that are present, not with the
    /// claimed count.
    pub(super) fn strings(&mut self) -> Result<Vec<String>, MessageError> {
        let count = self.u16()?;
        let mut strings = Vec::new();
        for _ in 0..count {
            strings.push(self.string()?);
        }
        Ok(strings)
    }

    pub(super) fn path(&mut self) -> Result<StreamPath, MessageError> {
        Ok(self.string()?.parse()?)
    }

    pub(super) fn duration(&mut self) -> Result<Duration, MessageError> {
        self.u64().map(Duration::from_micros)
    }

    pub(super) fn time(&mut self, field: &'static str) -> Result<SystemTime, MessageError> {
        let micros = self.u64()?;
        UNIX_EPOCH.checked_add(Duration::from_micros(micros)).ok_or_else(|| self.bad(field, micros))
    }

    pub(super) fn option<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, MessageError>,
    ) -> Result<Option<T>, MessageError> {
        if self.bool(field)? { read(self).map(Some) } else { Ok(None) }
    }
}
