//! `echo`: returns its input.

use crate::action::{Action, Context};
use crate::domain::{Failure, Payload};

/// `echo`: returns its input, byte for byte.
#[derive(Debug, Clone, Copy)]
pub struct Echo;

impl Action for Echo {
    const NAME: &'static str = "echo";
    type Input = Payload;
    type Output = Payload;

    async fn run(&self, _context: Context, input: Payload) -> Result<Payload, Failure> {
        Ok(input)
    }
}
