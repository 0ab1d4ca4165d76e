//! Published JSON schemas of the events.
