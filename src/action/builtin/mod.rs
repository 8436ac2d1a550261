//! The actions that every executor has.
