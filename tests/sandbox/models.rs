//! The models of a workspace's gateway: each protocol of the coding agents, always with the same
//! reply, as one answer or as a stream of events.
//!
//! The answers contain what the agents need; `tests/it/agents.rs` runs the agents against them.

use serde_json::{Value, json};

use super::server::{Answer, Request};

pub const REPLY: &str = "hello from the sandbox";

/// The reply in one protocol.
struct Reply {
    whole: Value,
    /// Names of events (empty if the protocol has none), and their data.
    events: Vec<(&'static str, Value)>,
}

/// The answer of a model, if the path belongs to a model.
pub fn answer(request: &Request) -> Option<Answer> {
    let body: Value = serde_json::from_str(&request.body).unwrap_or(Value::Null);
    let path = request.path.as_str();
    let (reply, is_stream) = match path.rsplit('/').next().unwrap_or_default() {
        "messages" => (anthropic(), body["stream"] == true),
        // Codex may compress its requests, and always asks for a stream.
        "responses" => (responses(), body["stream"] != false),
        "completions" => (chat(), body["stream"] == true),
        last if last.ends_with("generateContent") => (gemini(), false),
        last if last.ends_with("streamGenerateContent") => (gemini(), true),
        _ => return None,
    };
    if !is_stream {
        return Some(Answer::Json(200, reply.whole));
    }

    let mut text = String::new();
    for (name, mut event) in reply.events {
        if !name.is_empty() {
            event["type"] = name.into();
            text.push_str(&format!("event: {name}\n"));
        }
        text.push_str(&format!("data: {event}\n\n"));
    }
    if path.ends_with("/chat/completions") {
        text.push_str("data: [DONE]\n\n");
    }
    let headers = vec![("Content-Type".to_owned(), "text/event-stream".to_owned())];
    Some(Answer::Text { status: 200, headers, body: text.into_bytes() })
}

fn anthropic() -> Reply {
    let usage = json!({ "input_tokens": 1, "output_tokens": 5 });
    let message = |content: Value, reason: Value| {
        json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
            "content": content, "stop_reason": reason, "stop_sequence": null, "usage": usage,
        })
    };
    let delta = json!({ "stop_reason": "end_turn", "stop_sequence": null });
    Reply {
        whole: message(json!([{ "type": "text", "text": REPLY }]), "end_turn".into()),
        events: vec![
            ("message_start", json!({ "message": message(json!([]), Value::Null) })),
            (
                "content_block_start",
                json!({ "index": 0, "content_block": { "type": "text", "text": "" } }),
            ),
            (
                "content_block_delta",
                json!({ "index": 0, "delta": { "type": "text_delta", "text": REPLY } }),
            ),
            ("content_block_stop", json!({ "index": 0 })),
            ("message_delta", json!({ "delta": delta, "usage": usage })),
            ("message_stop", json!({})),
        ],
    }
}

fn responses() -> Reply {
    let part = |text: &str| json!({ "type": "output_text", "text": text, "annotations": [] });
    let item = |status: &str, content: Value| {
        json!({
            "type": "message", "id": "m1", "role": "assistant", "status": status,
            "content": content,
        })
    };
    let done = item("completed", json!([part(REPLY)]));
    let response = |status: &str, output: Value| {
        json!({
            "id": "r1", "object": "response", "created_at": 0, "model": "m", "status": status,
            "output": output,
            "usage": {
                "input_tokens": 1, "output_tokens": 5, "total_tokens": 6,
                "input_tokens_details": { "cached_tokens": 0 },
                "output_tokens_details": { "reasoning_tokens": 0 },
            },
        })
    };
    let at = |mut event: Value| {
        for (name, value) in [("output_index", 0), ("content_index", 0)] {
            event[name] = value.into();
        }
        event["item_id"] = "m1".into();
        event
    };
    let first = item("in_progress", json!([]));
    Reply {
        whole: response("completed", json!([done])),
        events: vec![
            ("response.created", json!({ "response": response("in_progress", json!([])) })),
            ("response.output_item.added", json!({ "output_index": 0, "item": first })),
            ("response.content_part.added", at(json!({ "part": part("") }))),
            ("response.output_text.delta", at(json!({ "delta": REPLY }))),
            ("response.output_text.done", at(json!({ "text": REPLY }))),
            ("response.content_part.done", at(json!({ "part": part(REPLY) }))),
            ("response.output_item.done", json!({ "output_index": 0, "item": done })),
            ("response.completed", json!({ "response": response("completed", json!([done])) })),
        ],
    }
}

fn chat() -> Reply {
    let answer = |kind: &str, field: &str, reason: Value| {
        let message = json!({ "role": "assistant", "content": REPLY });
        let message = if reason.is_null() || field == "message" { message } else { json!({}) };
        json!({
            "id": "c1", "object": kind, "created": 0, "model": "m",
            "choices": [{ "index": 0, field: message, "finish_reason": reason }],
            "usage": { "prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6 },
        })
    };
    Reply {
        whole: answer("chat.completion", "message", "stop".into()),
        events: vec![
            ("", answer("chat.completion.chunk", "delta", Value::Null)),
            ("", answer("chat.completion.chunk", "delta", "stop".into())),
        ],
    }
}

fn gemini() -> Reply {
    let whole = json!({
        "candidates": [{
            "content": { "role": "model", "parts": [{ "text": REPLY }] },
            "finishReason": "STOP", "index": 0,
        }],
        "modelVersion": "m",
        "usageMetadata": { "promptTokenCount": 1, "candidatesTokenCount": 5, "totalTokenCount": 6 },
    });
    Reply { whole: whole.clone(), events: vec![("", whole)] }
}
