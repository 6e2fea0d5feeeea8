//! The kind bytes. Those of replies have the highest bit set.

pub(crate) const HELLO: u8 = 0x01;
pub(crate) const CREATE: u8 = 0x02;
pub(crate) const OPEN_WRITER: u8 = 0x03;
pub(crate) const OPEN_READER: u8 = 0x04;
pub(crate) const LIST: u8 = 0x05;
pub(crate) const STAT: u8 = 0x06;
pub(crate) const CLOSE: u8 = 0x07;
pub(crate) const REMOVE: u8 = 0x08;
pub(crate) const DOCUMENT: u8 = 0x09;
pub(crate) const INFO: u8 = 0x0a;
pub(crate) const APPEND: u8 = 0x10;
pub(crate) const APPEND_PART: u8 = 0x11;
pub(crate) const FINISH: u8 = 0x12;
pub(crate) const MADE_ROOM: u8 = 0x13;
pub(crate) const STAGED: u8 = 0x14;
pub(crate) const UNMAPPED: u8 = 0x15;

pub(crate) const HELLO_REPLY: u8 = 0x81;
pub(crate) const DONE: u8 = 0x82;
pub(crate) const ERROR: u8 = 0x83;
pub(crate) const SUMMARY: u8 = 0x84;
pub(crate) const STAT_REPLY: u8 = 0x85;
pub(crate) const WRITER_STAT: u8 = 0x86;
pub(crate) const READER_STAT: u8 = 0x87;
pub(crate) const DOCUMENT_REPLY: u8 = 0x88;
pub(crate) const DAEMON: u8 = 0x89;
pub(crate) const WRITING: u8 = 0x8a;
pub(crate) const WAITING: u8 = 0x8b;
pub(crate) const READING: u8 = 0x8c;
pub(crate) const DATA: u8 = 0x8d;
pub(crate) const DATA_PART: u8 = 0x8e;
pub(crate) const GAP: u8 = 0x8f;
pub(crate) const ACK: u8 = 0x90;
pub(crate) const END: u8 = 0x91;
pub(crate) const MAPPED: u8 = 0x92;
pub(crate) const STAGING: u8 = 0x93;
