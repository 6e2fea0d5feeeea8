//! A stream as the body of a response: copied from the ring once, into a buffer that exists only while there is something to send.
