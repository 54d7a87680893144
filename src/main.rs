//! Parses arguments, runs one subcommand, exits with its code.

use std::process::ExitCode;

use clap::Parser;
use pileway::cli::{decode, demo, journal, serve, sim};

#[derive(Parser)]
#[command(name = "pileway", version, about)]
enum Command {
    /// Watch one charge, from login to settled bill: a node and simulated piles in one process.
    Demo(demo::DemoArgs),
    /// Run a node.
    Serve(serve::ServeArgs),
    /// Run simulated piles against any YKC platform.
    Sim(sim::SimArgs),
    /// Print the commented default configuration.
    Config(serve::ConfigArgs),
    /// Print the frame table.
    Frames(decode::FramesArgs),
    /// Make frames readable.
    Decode(decode::DecodeArgs),
    /// Make frames from what `decode --json` prints.
    Encode(decode::EncodeArgs),
    /// Look into a node's journal, or replay it.
    Journal(journal::JournalArgs),
}

fn main() -> ExitCode {
    match Command::parse() {
        Command::Demo(args) => demo::demo(&args),
        Command::Serve(args) => serve::serve(&args),
        Command::Sim(args) => sim::sim(args),
        Command::Config(args) => serve::config(&args),
        Command::Frames(args) => decode::frames(&args),
        Command::Decode(args) => decode::decode(&args),
        Command::Encode(args) => decode::encode(&args),
        Command::Journal(args) => journal::journal(&args),
    }
}
