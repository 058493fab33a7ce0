// Shows every small part in every state, for those who design and those who
// review. Only `npm run dev` serves it, at /gallery.html; it is not shipped.
import { mount } from 'svelte';
import '../styles/tokens.css';
import '../styles/base.css';
import Gallery from './Gallery.svelte';

mount(Gallery, { target: document.getElementById('app')! });
