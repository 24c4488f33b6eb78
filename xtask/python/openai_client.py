"""Drives a running `smelt serve` with the `openai` package.

    openai_client.py URL MODEL KEY

Exit code 0 if everything that is asked for comes back as the package expects it. The model may say anything.
"""

import asyncio
import json
import sys

import openai

URL, MODEL, KEY = sys.argv[1:]
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "for file in"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Bern", "Oslo"]}, "days": {"enum": [1, 2, 3]}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
NOTHING = {"type": "function", "function": {"name": "nothing", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}}
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "sizes": {"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 3}},
    "required": ["colour", "sizes"],
    "additionalProperties": False,
}


def chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_completion_tokens=12, seed=1, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.message.role == "assistant" and choice.finish_reason in ("length", "stop") for choice in answer.choices)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    again = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=12, seed=1)
    assert again.choices[0].message.content == answer.choices[0].message.content, "a seed decides"
    stopped = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=200, temperature=0.8, top_p=0.9, presence_penalty=0.5,
        frequency_penalty=0.5, stop=["e", "\n"], seed=2, logit_bias={"5": -100}, user="test", metadata={"a": "b"},
        extra_body={"top_k": 40, "min_p": 0.01, "repetition_penalty": 1.1},
    )
    assert "e" not in stopped.choices[0].message.content and "\n" not in stopped.choices[0].message.content


def streaming(client: openai.OpenAI) -> None:
    asked = {"model": MODEL, "messages": MESSAGES, "max_tokens": 12, "seed": 1}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage or chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert all(chunk.id == chunks[0].id and chunk.model == MODEL for chunk in chunks)
    pieces = [chunk.choices[0] for chunk in chunks[:-1]]
    assert "".join(piece.delta.content or "" for piece in pieces) == whole.choices[0].message.content
    assert pieces[-1].finish_reason == whole.choices[0].finish_reason
    # The helper of the package puts a stream together itself.
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES, max_tokens=12, seed=1) as stream:
        for _ in stream:
            pass
        final = stream.current_completion_snapshot
    assert final.choices[0].message.content == whole.choices[0].message.content
    # Leaving early is no trouble for the next one.
    with client.chat.completions.create(**{**asked, "max_tokens": 100}, stream=True) as stream:
        next(iter(stream))
    texts = client.completions.create(model=MODEL, prompt="for file", max_tokens=8, seed=1, stream=True)
    text = "".join(chunk.choices[0].text for chunk in texts)
    assert text == client.completions.create(model=MODEL, prompt="for file", max_tokens=8, seed=1).choices[0].text


async def many(client: openai.AsyncOpenAI) -> None:
    async def one(seed: int) -> str:
        stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=10, seed=seed, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    texts = await asyncio.gather(*(one(seed % 4) for seed in range(16)))
    assert len(set(texts)) <= 4 and texts[:4] == texts[4:8] == texts[12:], texts


def logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=5, logprobs=True, top_logprobs=3, temperature=0,
        extra_body={"ignore_eos": True},
    )
    content = answer.choices[0].logprobs.content
    assert len(content) == 5 and all(len(token.top_logprobs) == 3 for token in content)
    assert all(token.top_logprobs[0].logprob == token.logprob <= 0 for token in content)
    whole = bytes(byte for token in content for byte in token.bytes).decode(errors="replace")
    assert whole == answer.choices[0].message.content
    scored = client.completions.create(model=MODEL, prompt="for file in", max_tokens=0, echo=True, logprobs=2)
    found = scored.choices[0].logprobs
    assert "".join(found.tokens) == "for file in" == scored.choices[0].text
    assert found.token_logprobs[0] is None and all(value < 0 for value in found.token_logprobs[1:])


def shapes(client: openai.OpenAI) -> None:
    asked = {"model": MODEL, "messages": MESSAGES, "max_tokens": 200, "seed": 3}
    schema = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA, "strict": True}}
    for seed in range(3):
        found = json.loads(client.chat.completions.create(**{**asked, "seed": seed}, response_format=schema).choices[0].message.content)
        assert found["colour"] in ("red", "green") and set(found["sizes"]) <= {1, 2} and 2 <= len(found["sizes"]) <= 3, found
    chunks = client.chat.completions.create(**asked, response_format=schema, stream=True)
    json.loads("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    free = client.chat.completions.create(**{**asked, "temperature": 0.2}, response_format={"type": "json_object"}).choices[0]
    assert free.message.content.lstrip().startswith("{")
    if free.finish_reason == "stop":
        assert isinstance(json.loads(free.message.content), dict)
    guided = client.completions.create(model=MODEL, prompt="for", extra_body={"guided_regex": "[ab]{3}c"})
    assert len(guided.choices[0].text) == 4 and guided.choices[0].text[3] == "c", guided.choices[0].text


def tools(client: openai.OpenAI) -> None:
    asked = {"model": MODEL, "messages": MESSAGES, "tools": [WEATHER, NOTHING], "max_tokens": 200}
    named = {"type": "function", "function": {"name": "weather"}}
    choice = client.chat.completions.create(**asked, tool_choice=named, seed=1).choices[0]
    [call] = choice.message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    assert call.function.name == "weather" and arguments["city"] in ("Bern", "Oslo") and arguments["days"] in (1, 2, 3)
    names = set()
    for seed in range(8):
        calls = client.chat.completions.create(**asked, tool_choice="required", seed=seed).choices[0].message.tool_calls
        names.add(calls[0].function.name)
    assert names <= {"weather", "nothing"}, names
    # A stream has the same call, and the answer to it goes into the next request.
    pieces = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, tool_choice=named, seed=1, stream=True)]
    [streamed] = [piece.delta.tool_calls[0] for piece in pieces if piece.delta.tool_calls]
    assert (streamed.index, streamed.type) == (0, "function")
    assert streamed.function.arguments == call.function.arguments and pieces[-1].finish_reason == "tool_calls"
    told = [*MESSAGES, choice.message, {"role": "tool", "tool_call_id": call.id, "content": "fine"}]
    after = client.chat.completions.create(**{**asked, "messages": told, "max_tokens": 4})
    assert after.usage.prompt_tokens > client.chat.completions.create(**{**asked, "max_tokens": 4}).usage.prompt_tokens
    free = client.chat.completions.create(**{**asked, "max_tokens": 4}, tool_choice="none").choices[0]
    assert free.message.tool_calls is None


def embeddings(client: openai.OpenAI) -> None:
    # The package asks for base64 unless it is told otherwise.
    packed = client.embeddings.create(model=MODEL, input=["for file", "in the moon"])
    plain = client.embeddings.create(model=MODEL, input=["for file", "in the moon"], encoding_format="float")
    for one, other in zip(packed.data, plain.data, strict=True):
        assert max(abs(a - b) for a, b in zip(one.embedding, other.embedding, strict=True)) < 1e-4
        assert abs(sum(value * value for value in other.embedding) - 1) < 1e-4


def refused(kind: type, param: str | None, code: str, ask) -> None:
    try:
        ask()
    except kind as error:
        assert (error.param, error.code) == (param, code), (error.param, error.code, error.message)
        return
    raise AssertionError(f"{code}: not refused")


def errors(client: openai.OpenAI) -> None:
    create = client.chat.completions.create
    refused(openai.NotFoundError, "model", "model_not_found", lambda: create(model="none", messages=MESSAGES))
    refused(openai.BadRequestError, "temperature", "invalid_value", lambda: create(model=MODEL, messages=MESSAGES, temperature=-1))
    refused(openai.BadRequestError, "prediction", "unsupported_parameter", lambda: create(model=MODEL, messages=MESSAGES, prediction={"type": "content", "content": "a"}))
    refused(openai.BadRequestError, "colour", "unknown_parameter", lambda: create(model=MODEL, messages=MESSAGES, extra_body={"colour": 1}))
    refused(openai.BadRequestError, "messages", "context_length_exceeded", lambda: create(model=MODEL, messages=[{"role": "user", "content": "moon " * 3000}]))
    refused(openai.BadRequestError, "suffix", "unsupported_parameter", lambda: client.completions.create(model=MODEL, prompt="a", suffix="b"))
    stranger = openai.OpenAI(base_url=URL, api_key="wrong", max_retries=0)
    refused(openai.AuthenticationError, None, "invalid_api_key", stranger.models.list)


def main() -> None:
    client = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0)
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL
    for part in (chat, streaming, logprobs, shapes, tools, embeddings, errors):
        part(client)
        print(f"{part.__name__}: as it should be")
    asyncio.run(many(openai.AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0)))
    print(f"openai {openai.__version__}: all as it should be")


main()
