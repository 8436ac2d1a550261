//! A broker in this process.
