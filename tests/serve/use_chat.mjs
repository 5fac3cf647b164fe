// What ``useChat`` is made of, without React: the package's own chat, transport and helpers.
import {AbstractChat, DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls} from 'ai';
import fs from 'fs';

class State {
  status = 'ready';
  error = undefined;
  constructor(messages) { this.messages = messages; }
  pushMessage = (message) => { this.messages = [...this.messages, this.snapshot(message)]; };
  popMessage = () => { this.messages = this.messages.slice(0, -1); };
  replaceMessage = (index, message) => {
    this.messages = this.messages.map((each, n) => (n === index ? this.snapshot(message) : each));
  };
  snapshot = (value) => structuredClone(value);
}

export class Chat extends AbstractChat {
  constructor({messages = [], ...options}) {
    super({...options, state: new State(messages)});
  }
}

const USER = {id: 'u', role: 'user', parts: [{type: 'text', text: 'q'}]};
const read = () => JSON.parse(fs.readFileSync(0, 'utf8'));
const lastOf = (chat) => (chat.lastMessage?.role === 'assistant' ? chat.lastMessage : null);
