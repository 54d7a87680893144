//! Parses arguments, runs one subcommand, exits with its code.

use std::process::ExitCode;

use clap::Parser;
use pileway::cli::{decode, sim};

#[derive(Parser)]
#[command(name = "pileway", version, about)]
enum Command {
    /// Print the frame table.
    Frames(decode::FramesArgs),
    /// Make frames readable.
    Decode(decode::DecodeArgs),
    /// Make frames from what `decode --json` prints.
    Encode(decode::EncodeArgs),
    /// Run simulated piles against a platform.
    Sim(sim::SimArgs),
}

fn main() -> ExitCode {
    match Command::parse() {
        Command::Frames(args) => decode::frames(&args),
        Command::Decode(args) => decode::decode(&args),
        Command::Encode(args) => decode::encode(&args),
        Command::Sim(args) => sim::sim(args),
    }
}
